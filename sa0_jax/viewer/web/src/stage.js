// The panes, the camera they share and the loop that draws them when something has changed.

import * as THREE from 'three';
import { OrbitControls } from 'three/addons/controls/OrbitControls.js';

import { neutralCodes } from './head.js';
import { Pane } from './pane.js';

const MAX_RATIO = 2; // device pixels per pixel: more costs fill rate and shows nothing

export class Stage {
  constructor(element, packs) {
    this.element = element;
    this.home = packs[0].home;
    this.eye = new THREE.PerspectiveCamera();
    this.controls = new OrbitControls(this.eye, element);
    this.controls.enablePan = true;
    this.controls.minDistance = 0.2;
    this.controls.maxDistance = 5;
    this.controls.addEventListener('change', () => this.touch());
    this.controls.addEventListener('start', () => this.setView(null));
    this.listeners = [];
    this.frameTimes = [];
    this.panes = packs.map((pack) => {
      const canvas = document.createElement('canvas');
      canvas.setAttribute('role', 'img');
      canvas.setAttribute('aria-label', `avatar ${pack.name}`);
      element.append(canvas);
      return new Pane(canvas, pack, () => this.touch());
    });
    this.codes = neutralCodes(packs[0].expressions.length);
    this.maps = packs.map((pack) => expressionMap(packs[0], pack));
    this.goHome();
    this.pose();
    new ResizeObserver(() => this.resize()).observe(element);
    this.resize();
    this.background('#ffffff');
    this.dirty = true;
    requestAnimationFrame((time) => this.#frame(time));
  }

  touch() {
    this.dirty = true;
  }

  goHome() {
    this.eye.position.fromArray(this.home.position);
    this.controls.target.fromArray(this.home.target);
    this.controls.update();
    this.setView(null);
  }

  // Turns around the target by angles in radians, and goes nearer by a factor.
  orbit(across, up, nearer = 1) {
    const offset = this.eye.position.clone().sub(this.controls.target);
    const place = new THREE.Spherical().setFromVector3(offset);
    place.theta += across;
    place.phi = Math.min(Math.PI - 0.05, Math.max(0.05, place.phi - up));
    place.radius *= nearer;
    this.eye.position.copy(this.controls.target).add(offset.setFromSpherical(place));
    this.setView(null);
    this.controls.update();
    this.touch();
  }

  setView(view) {
    for (const pane of this.panes) pane.view = view;
    this.touch();
  }

  background(color) {
    for (const pane of this.panes) pane.background(color);
    this.touch();
  }

  show(what) {
    for (const pane of this.panes) pane.show(what);
    this.touch();
  }

  pose() {
    this.panes.forEach((pane, i) => pane.pose(mapped(this.codes, this.maps[i])));
    this.touch();
  }

  resize(ratio = Math.min(devicePixelRatio, MAX_RATIO)) {
    for (const pane of this.panes) {
      const { clientWidth, clientHeight } = pane.canvas;
      if (clientWidth && clientHeight) pane.resize(clientWidth, clientHeight, ratio);
    }
    this.render();
  }

  // f(time in ms) before every frame.
  onFrame(listener) {
    this.listeners.push(listener);
  }

  render() {
    for (const pane of this.panes) pane.render(this.eye, this.home.focal);
  }

  #frame(time) {
    requestAnimationFrame((next) => this.#frame(next));
    for (const listener of this.listeners) listener(time);
    if (!this.dirty) return;
    this.dirty = false;
    this.render();
    this.frameTimes.push(time);
    if (this.frameTimes.length > 60) this.frameTimes.shift();
  }

  // Frames per second over the last second of drawing.
  get fps() {
    const times = this.frameTimes;
    return times.length < 2 ? 0 : (1000 * (times.length - 1)) / (times.at(-1) - times[0]);
  }

  // Until what is shown is sorted for what it shows.
  async settle() {
    let quiet = 0;
    while (quiet < 3) {
      await new Promise(requestAnimationFrame);
      quiet = this.panes.every((pane) => pane.settled) && !this.dirty ? quiet + 1 : 0;
    }
    this.render();
  }

  // All panes side by side on one canvas, drawn now: a WebGL canvas is empty once shown.
  picture(into = document.createElement('canvas')) {
    this.render();
    const width = this.panes.reduce((sum, pane) => sum + pane.canvas.width, 0);
    const height = Math.max(...this.panes.map((pane) => pane.canvas.height));
    if (into.width !== width || into.height !== height) Object.assign(into, { width, height });
    const context = into.getContext('2d');
    let x = 0;
    for (const { canvas } of this.panes) {
      context.drawImage(canvas, x, 0);
      x += canvas.width;
    }
    return into;
  }
}

// For each expression of `to`, the index of the same one in `from`: by name between heads, −1 where
// there is none.
function expressionMap(from, to) {
  if (from.head === to.head) return null;
  const known = new Map(from.expressions.map((e, i) => [e.named ? e.name : '', i]));
  return to.expressions.map((e) => (e.named ? known.get(e.name) ?? -1 : -1));
}

function mapped(codes, map) {
  if (map === null) return codes;
  const expression = Float32Array.from(map, (i) => (i < 0 ? 0 : codes.expression[i]));
  return { expression, pose: codes.pose };
}
