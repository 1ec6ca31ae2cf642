// Makes ../static from src: one script, the page, and the licences of what is inside.

import { createHash } from 'node:crypto';
import { readFileSync, readdirSync, writeFileSync } from 'node:fs';
import { build } from 'esbuild';

const OUT = '../static';

// What the bundle was made from; a test holds it against the sources.
const hash = createHash('sha256');
for (const name of ['package-lock.json', ...readdirSync('src').sort().map((n) => `src/${n}`)]) {
  hash.update(`${name}\0`).update(readFileSync(name));
}

const result = await build({
  entryPoints: ['src/main.js'],
  bundle: true,
  minify: true,
  charset: 'utf8',
  format: 'iife',
  target: 'es2022',
  legalComments: 'none',
  write: false,
});
// Inside a page of its own the script must not end early.
const code = result.outputFiles[0].text.replaceAll('</script', '<\\/script').replaceAll('<!--', '<\\!--');
writeFileSync(`${OUT}/viewer.js`, `/* See NOTICE.txt. Sources: sha256 ${hash.digest('hex')} */\n${code}`);
writeFileSync(`${OUT}/index.html`, readFileSync('src/index.html'));

const packages = ['three', '@sparkjsdev/spark', 'fflate'];
const notices = packages.map((name) => {
  const { version } = JSON.parse(readFileSync(`node_modules/${name}/package.json`));
  return `${name} ${version}\n\n${readFileSync(`node_modules/${name}/LICENSE`, 'utf8').trim()}\n`;
});
const intro = 'viewer.js holds code of these packages, under these licences.\n';
writeFileSync(`${OUT}/NOTICE.txt`, [intro, ...notices].join('\n----\n\n'));
