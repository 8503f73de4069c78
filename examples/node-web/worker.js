// Does something now and then, as workers do.
const timer = setInterval(() => {
  console.log(`tick, ${Math.round(process.memoryUsage().rss / 1048576)} MiB`);
}, 10_000);
console.log('worker is up');

process.on('SIGTERM', () => clearInterval(timer));
