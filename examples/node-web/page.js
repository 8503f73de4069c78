const escapes = { '&': '&amp;', '<': '&lt;', '>': '&gt;', '"': '&quot;', "'": '&#39;' };
const text = (value) => String(value ?? '–').replace(/[&<>"']/g, (c) => escapes[c]);

export function page({ requestId }) {
  const rows = [
    ['app', process.env.WHARF_APP ?? process.env.HEROKU_APP_NAME ?? 'node-web'],
    ['release', process.env.WHARF_RELEASE ?? process.env.HEROKU_RELEASE_VERSION],
    ['replica', process.env.WHARF_REPLICA ?? process.env.DYNO],
    ['node', process.version],
    ['request', requestId],
  ];
  const list = rows.map(([name, value]) => `<dt>${name}</dt><dd>${text(value)}</dd>`).join('');
  return `<!doctype html>
<html lang="en">
<meta charset="utf-8">
<meta name="viewport" content="width=device-width">
<title>${text(rows[0][1])}</title>
<link rel="stylesheet" href="/public/style.css">
<main><h1>${text(process.env.GREETING ?? 'Hello from Node')}</h1><dl>${list}</dl></main>
</html>
`;
}
