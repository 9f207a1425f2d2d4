// A picture of a splat file by Spark in headless Chromium, over black.
// node spark_view.mjs NODE_MODULES SCENE.json OUTPUT.png
// Scene: file, width, height, fov, pose (16 numbers, row by row: the camera's, right-up-back), turned (file is
// right-up-back and the pose of right-down-forward), blur (pixels squared), compensated (opacity makes up for blur).
import fs from 'node:fs';
import path from 'node:path';
import { photograph } from './headless.mjs';

const [modules, sceneFile, output] = process.argv.slice(2);
const scene = JSON.parse(fs.readFileSync(sceneFile));
const page = `<!doctype html><style>body{margin:0}</style>
<script type="importmap">{"imports": {"three": "/three/build/three.module.js", "three/addons/": "/three/examples/jsm/",
"@sparkjsdev/spark": "/@sparkjsdev/spark/dist/spark.module.js"}}</script><script type="module">
import * as THREE from 'three';
import { SparkRenderer, SplatMesh } from '@sparkjsdev/spark';
const s = ${JSON.stringify(scene)};
const renderer = new THREE.WebGLRenderer({ antialias: false, preserveDrawingBuffer: true });
renderer.setSize(s.width, s.height);
renderer.setClearColor(0, 1);
document.body.appendChild(renderer.domElement);
const scene = new THREE.Scene();
// As 3DGS draws: in order of depth, down to an alpha of 1/255, whatever reaches into the picture.
const spark = new SparkRenderer({ renderer, sortRadial: false, maxStdDev: Math.sqrt(2 * Math.log(255)),
  accumExtSplats: true, maxPixelRadius: 1e5, clipXY: 1e3, enableLod: false, preBlurAmount: s.compensated ? 0 : s.blur,
  blurAmount: s.compensated ? s.blur : 0 });
scene.add(spark);
const splat = new SplatMesh({ url: s.name, extSplats: true });
if (s.turned) splat.rotation.x = Math.PI;
scene.add(splat);
await splat.initialized;
const camera = new THREE.PerspectiveCamera(s.fov, s.width / s.height, s.near, s.far);
new THREE.Matrix4().set(...s.pose).decompose(camera.position, camera.quaternion, camera.scale);
// Splats are sorted by a worker, in its own time: drawn until three pictures in a row are the same.
let last = '', same = 0;
while (same < 2) {
  renderer.render(scene, camera);
  const picture = renderer.domElement.toDataURL('image/png');
  same = picture === last && spark.activeSplats > 0 && !spark.sorting && !spark.sortDirty ? same + 1 : 0;
  last = picture;
  await new Promise(done => setTimeout(done, 200));
}
window.picture = last;
</script>`;
await photograph(modules, page, { [scene.name]: scene.file }, output);
