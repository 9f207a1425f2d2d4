// A picture of a .glb by three.js in headless Chromium, lit by an equirectangular .hdr or .exr alone; no tone curve.
// node three_view.mjs NODE_MODULES SCENE.json OUTPUT.png     Scene: model, light, width, height, fov, eye, target.
import fs from 'node:fs';
import http from 'node:http';
import { createRequire } from 'node:module';
import path from 'node:path';

const [modules, sceneFile, output] = process.argv.slice(2);
const { chromium } = createRequire(path.join(path.resolve(modules), 'x.js'))('playwright-core');
const scene = JSON.parse(fs.readFileSync(sceneFile));
const page = `<!doctype html><style>body{margin:0}</style>
<script type="importmap">{"imports": {"three": "/three/build/three.module.js", "three/addons/": "/three/examples/jsm/"}}</script>
<script type="module">
import * as THREE from 'three';
import { GLTFLoader } from 'three/addons/loaders/GLTFLoader.js';
import { EXRLoader } from 'three/addons/loaders/EXRLoader.js';
const s = ${JSON.stringify(scene)};
const renderer = new THREE.WebGLRenderer({ antialias: true, alpha: true, preserveDrawingBuffer: true });
renderer.setSize(s.width, s.height);
renderer.setClearColor(0, 0);
renderer.toneMapping = THREE.NoToneMapping;
document.body.appendChild(renderer.domElement);
const light = await new EXRLoader().setDataType(THREE.FloatType).loadAsync('/light');
light.mapping = THREE.EquirectangularReflectionMapping;
const scene = new THREE.Scene();
scene.environment = new THREE.PMREMGenerator(renderer).fromEquirectangular(light).texture;
const model = await new GLTFLoader().loadAsync('/model.glb');
scene.add(model.scene);
const camera = new THREE.PerspectiveCamera(s.fov, s.width / s.height, 0.01, 1000);
camera.position.set(...s.eye);
camera.lookAt(...s.target);
renderer.render(scene, camera);
window.picture = renderer.domElement.toDataURL('image/png');
</script>`;
const server = http.createServer((request, response) => {
  const url = decodeURIComponent(request.url.split('?')[0]);
  const files = { '/model.glb': scene.model, '/light': scene.light };
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
  args: ['--no-sandbox', '--use-gl=angle', '--use-angle=swiftshader', '--enable-unsafe-swiftshader', '--disable-quic',
    '--no-first-run', '--disable-background-networking', '--disable-component-update', '--disable-sync'],
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
