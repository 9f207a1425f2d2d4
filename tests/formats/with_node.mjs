// Independent readers that only run in node: three.js (glTF, .spz) and Khronos' glTF validator.
// node with_node.mjs FOLDER_WITH_NODE_MODULES validate|gltf|spz FILE: one JSON object on standard output.
import fs from 'node:fs';
import path from 'node:path';
import { createRequire } from 'node:module';
import { pathToFileURL } from 'node:url';

const [, , folder, verb, file] = process.argv;
const bytes = fs.readFileSync(file);
const buffer = bytes.buffer.slice(bytes.byteOffset, bytes.byteOffset + bytes.length);
const addon = (name) => import(pathToFileURL(path.join(folder, 'node_modules/three/examples/jsm/loaders', name)));
globalThis.self = globalThis;

function contents(geometry) {
    const values = (name) => Array.from(geometry.getAttribute(name)?.array ?? []);
    return {
        positions: values('position'), covariances: values('covariance'), colors: values('color'),
        bands: [1, 2, 3].filter((i) => geometry.getAttribute(`sphericalHarmonics${i}`)).length,
        harmonics: values('sphericalHarmonics1'),
    };
}

if (verb === 'validate') {
    const validator = createRequire(path.join(folder, 'x.js'))('gltf-validator');
    const report = await validator.validateBytes(new Uint8Array(buffer), { maxIssues: 0 });
    console.log(JSON.stringify({ version: validator.version(), issues: report.issues, info: report.info }));
} else if (verb === 'gltf') {
    const { GLTFLoader } = await addon('GLTFLoader.js');
    const { GLTFGaussianSplatLoaderExtension } = await addon('GLTFGaussianSplatLoaderExtension.js');
    const loader = new GLTFLoader();
    loader.register((parser) => new GLTFGaussianSplatLoaderExtension(parser));
    const { scene } = await loader.parseAsync(buffer, '');
    scene.traverse((object) => {
        if (object.isGaussianSplat) console.log(JSON.stringify(contents(object.splatGeometry)));
    });
} else {
    const { SPZLoader } = await addon('SPZLoader.js');
    console.log(JSON.stringify(contents(await new SPZLoader().parse(buffer))));
}
