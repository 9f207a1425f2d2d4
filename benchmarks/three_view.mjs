// A picture of a .glb by three.js in headless Chromium, lit by an equirectangular .hdr or .exr alone; no tone curve.
// node three_view.mjs NODE_MODULES SCENE.json OUTPUT.png     Scene: model, light, width, height, fov, eye, target.
import fs from 'node:fs';
import { photograph } from './headless.mjs';

const [modules, sceneFile, output] = process.argv.slice(2);
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
await photograph(modules, page, { '/model.glb': scene.model, '/light': scene.light }, output);
