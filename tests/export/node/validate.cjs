// Prints what the Khronos validator says of a .glb file, as JSON. node validate.cjs FILE
const fs = require('node:fs');
const { createRequire } = require('node:module');

const validator = createRequire(`${process.cwd()}/package.json`)('gltf-validator');
validator
  .validateBytes(new Uint8Array(fs.readFileSync(process.argv[2])), { maxIssues: 20 })
  .then((report) => console.log(JSON.stringify(report.issues)));
