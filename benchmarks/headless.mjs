// A picture that a page draws in headless Chromium, whose WebGL runs on the processor.
import fs from 'node:fs';
import http from 'node:http';
import { createRequire } from 'node:module';
import path from 'node:path';

/** Write `output`, a PNG, when the page has set `window.picture` to a data URL; ends with an error if it never does.
 *
 * modules: folder node_modules, with playwright-core, which the page sees at /.  files: further ones, by address.
 */
export async function photograph(modules, page, files, output) {
  const { chromium } = createRequire(path.join(path.resolve(modules), 'x.js'))('playwright-core');
  const server = http.createServer((request, response) => {
    const url = decodeURIComponent(request.url.split('?')[0]);
    if (url === '/') return response.setHeader('content-type', 'text/html').end(page);
    const file = files[url] ?? path.join(path.resolve(modules), path.normalize(url));
    if (url === '/favicon.ico') return response.writeHead(204).end();
    if (!fs.existsSync(file)) return response.writeHead(404).end();
    response.setHeader('content-type', file.endsWith('.js') ? 'text/javascript' : 'application/octet-stream');
    response.end(fs.readFileSync(file));
  }).listen(0, '127.0.0.1');
  await new Promise(done => server.once('listening', done));
  const browser = await chromium.launch({
    executablePath: process.env.CHROMIUM ?? '/usr/bin/chromium',
    args: ['--no-sandbox', '--use-gl=angle', '--use-angle=swiftshader', '--enable-unsafe-swiftshader',
      '--disable-quic', '--no-first-run', '--disable-background-networking', '--disable-component-update',
      '--disable-sync'],
  });
  try {
    const tab = await browser.newPage();
    tab.on('pageerror', error => console.error('page:', error.message));
    tab.on('console', m => m.type() === 'error' && console.error('console:', m.text()));
    await tab.goto(`http://127.0.0.1:${server.address().port}/`);
    await tab.waitForFunction('window.picture', null, { timeout: 240000 });
    const url = await tab.evaluate('window.picture');
    fs.writeFileSync(output, Buffer.from(url.split(',')[1], 'base64'));
  } finally {
    await browser.close();
    server.close();
  }
}
