import express from 'express';
import { page } from './page.js';

const app = express();
const startedAt = Date.now();

app.disable('x-powered-by');
app.use('/public', express.static('public', { maxAge: '1h' }));

app.get('/', (request, response) => {
  response.type('html').send(page({ requestId: request.get('x-request-id') }));
});

app.get('/healthz', (_request, response) => {
  response.json({ ok: true, uptime: (Date.now() - startedAt) / 1000 });
});

const server = app.listen(process.env.PORT ?? 3000, () => {
  console.log(`listening on ${server.address().port}`);
});

// Finish what is being answered, then go.
process.on('SIGTERM', () => server.close(() => process.exit(0)));
