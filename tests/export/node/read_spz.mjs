// Reads an SPZ file with Spark's reader and writes 14 float32 a splat: position, opacity, colour,
// scale, rotation (x y z w). node read_spz.mjs IN OUT
import fs from 'node:fs';
import { createRequire } from 'node:module';
import { pathToFileURL } from 'node:url';

globalThis.navigator ??= {}; // three.js asks for it while it loads
const resolve = createRequire(`${process.cwd()}/package.json`).resolve;
const { SpzReader } = await import(
  pathToFileURL(resolve('@sparkjsdev/spark').replace('spark.cjs.js', 'spark.module.js'))
);
const reader = new SpzReader({ fileBytes: new Uint8Array(fs.readFileSync(process.argv[2])) });
await reader.parseHeader();
const rows = new Float32Array(14 * reader.numSplats);
const put = (start) => (index, ...values) => rows.set(values, 14 * index + start);
await reader.parseSplats(put(0), put(3), put(4), put(7), put(10));
fs.writeFileSync(process.argv[3], rows);
process.exit(0); // Spark's workers would keep the process
