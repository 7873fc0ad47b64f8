// Time .tflite files in LiteRT.js, the runtime that web pages load: WebAssembly with SIMD, one thread.
//
//   npm install @litertjs/core            in any folder; Node 22 or newer
//   node benchmarks/web_time.mjs FOLDER A.tflite B.tflite
//
// prints a line for each file: its name and the milliseconds of one inference, the least of several, once the engine has compiled what it runs.

import fs from 'node:fs';
import {createRequire} from 'node:module';
import path from 'node:path';
import {pathToFileURL} from 'node:url';
import vm from 'node:vm';

const WARM_UP_SECONDS = 0.4;  // in which the engine compiles what it runs often
const SECONDS = 0.4;

const [folder, ...files] = process.argv.slice(2);
if (!files.length) {
  console.error('usage: node web_time.mjs FOLDER FILE...   FOLDER is where @litertjs/core was installed');
  process.exit(2);
}
const home = path.resolve(folder, 'node_modules', '@litertjs', 'core');
const library = path.join(home, 'wasm', 'litert_wasm_internal.js');
if (!fs.existsSync(library)) {
  console.error(`There must be ${library}; run \`npm install @litertjs/core\` in ${folder}.`);
  process.exit(2);
}

// what the library finds in a worker of a page
globalThis.self = globalThis;
globalThis.require = createRequire(library);
globalThis.__filename = library;
globalThis.__dirname = path.dirname(library);
globalThis.location = {href: pathToFileURL(library).href};
globalThis.WorkerGlobalScope = class {};
globalThis.importScripts = (script) => vm.runInThisContext(fs.readFileSync(script, 'utf8'), {filename: script});

for (const name of ['log', 'info', 'warn']) console[name] = () => {};  // the runtime's own lines
const {loadAndCompile, loadLiteRt, Tensor} = await import(pathToFileURL(path.join(home, 'dist', 'index.js')));
await loadLiteRt(library);

for (const file of files) {
  const model = await loadAndCompile(new Uint8Array(fs.readFileSync(file)), {accelerator: 'wasm'});
  const inputs = model.getInputDetails().map(({shape}) => {
    const size = shape.reduce((product, side) => product * side, 1);
    return new Tensor(new Float32Array(size).fill(0.5), [...shape]);
  });
  const inference = async () => {
    const before = performance.now();
    const outputs = await model.run(inputs);
    const took = performance.now() - before;
    for (const output of outputs) output.delete();
    return took;
  };
  const until = async (seconds) => {
    let least = Infinity;
    const began = performance.now();
    for (let run = 0; run < 3 || performance.now() - began < 1000 * seconds; run++) {
      least = Math.min(least, await inference());
    }
    return least;
  };
  await until(WARM_UP_SECONDS);
  const least = await until(SECONDS);
  process.stdout.write(`${file} ${least.toFixed(4)}\n`);
  for (const input of inputs) input.delete();
  model.delete();
}
process.exit(0);
