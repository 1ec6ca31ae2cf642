// The page: finds its avatars, inline or on the server, and shows them.

import { unpack } from './pack.js';
import { Panel } from './panel.js';
import { Stage } from './stage.js';

async function avatars() {
  const inline = [...document.querySelectorAll('script[data-avatar]')];
  if (inline.length) return inline.map((script) => bytes(script.textContent));
  const count = Number(document.documentElement.dataset.avatars);
  return Promise.all(Array.from({ length: count }, (_, i) => load(`avatar/${i}`)));
}

function bytes(base64) {
  return Uint8Array.from(atob(base64.trim()), (character) => character.charCodeAt(0)).buffer;
}

async function load(address) {
  const answer = await fetch(address);
  if (!answer.ok) throw new Error(`${address}: ${answer.status}`);
  return answer.arrayBuffer();
}

async function start() {
  const packs = (await avatars()).map(unpack);
  const stage = new Stage(document.getElementById('stage'), packs);
  const panel = new Panel(document.getElementById('panel'), stage, packs);
  await stage.settle();
  document.body.dataset.state = 'ready';
  return { stage, panel, packs };
}

// What tests and the console may use: a promise of {stage, panel, packs}.
window.sa0 = start();
window.sa0.catch((error) => {
  document.body.dataset.state = 'failed';
  document.getElementById('message').textContent = `This page cannot show the avatar: ${error.message}`;
});
