// The controls beside the picture.

import { setPose } from './head.js';
import { Playback } from './playback.js';
import { download, recordTurntable } from './recording.js';

const JAW = [0, 0.5]; // rad
const GAZE = [-0.5, 0.5];
const TURN = [-0.7, 0.7];
const STEP = 0.06; // rad per key
const BACKGROUNDS = { White: '#ffffff', Gray: '#808080', Black: '#000000' };
const VIEWS = { Splats: 'splats', Points: 'points', Mesh: 'mesh', 'Splats and mesh': 'both' };

function make(tag, properties = {}, ...children) {
  const element = Object.assign(document.createElement(tag), properties);
  element.append(...children);
  return element;
}

export class Panel {
  constructor(element, stage, packs) {
    Object.assign(this, { element, stage, packs, sliders: [] });
    this.face = { jaw: 0, gaze: [0, 0], turn: [0, 0] };
    this.playback = packs[0].motion ? new Playback(stage, packs[0], () => this.#follow()) : null;
    element.append(make('h1', { textContent: packs.map((pack) => pack.name).join(' · ') }));
    this.#actions();
    this.#presets();
    if (this.playback) element.append(this.playback.controls(make));
    this.#looks();
    this.#pose();
    this.#expressions();
    this.#keys();
  }

  #section(title, ...children) {
    const section = make('section', {}, make('h2', { textContent: title }), ...children);
    this.element.append(section);
    return section;
  }

  #actions() {
    this.status = make('output', { className: 'status' });
    this.status.setAttribute('aria-live', 'polite');
    const button = (textContent, id, onclick) => make('button', { type: 'button', textContent, id, onclick });
    const row = make(
      'div',
      { className: 'buttons' },
      button('Screenshot', 'screenshot', () => this.#screenshot()),
      button('Turntable', 'turntable', () => this.#turntable()),
      button('Front view', 'home', () => this.stage.goHome()),
    );
    this.element.append(row, this.status);
  }

  async #screenshot() {
    await this.stage.settle();
    const blob = await new Promise((done) => this.stage.picture().toBlob(done, 'image/png'));
    download(blob, `${this.packs[0].name}.png`);
    this.status.textContent = 'picture saved';
  }

  async #turntable() {
    this.status.textContent = 'recording…';
    try {
      const clip = await this.record();
      download(clip.blob, `${this.packs[0].name}.${clip.suffix}`);
      this.status.textContent = 'turntable saved';
    } catch (error) {
      this.status.textContent = `no recording: ${error.message}`;
    }
  }

  record(seconds) {
    return recordTurntable(this.stage, seconds);
  }

  #presets() {
    const buttons = this.packs[0].presets.map((preset) =>
      make('button', { type: 'button', textContent: preset.name, onclick: () => this.preset(preset) }),
    );
    this.#section('Faces', make('div', { className: 'buttons' }, ...buttons));
  }

  preset({ expression, jaw, gaze }) {
    this.playback?.stop();
    const { codes } = this.stage;
    codes.expression.fill(0);
    codes.pose.fill(0);
    for (const [index, weight] of expression) codes.expression[index] = weight;
    Object.assign(this.face, { jaw, gaze: [...gaze], turn: [0, 0] });
    this.stage.setView(null);
    this.#apply();
    this.#refresh();
  }

  #looks() {
    const select = (label, options, id, onchange) => {
      const box = make('select', { id });
      for (const name of Object.keys(options)) box.append(make('option', { textContent: name }));
      box.onchange = () => onchange(options[box.value]);
      return make('label', { textContent: label }, box);
    };
    this.#section(
      'Picture',
      select('Show ', VIEWS, 'show', (what) => this.stage.show(what)),
      select('Background ', BACKGROUNDS, 'background', (color) => this.stage.background(color)),
    );
  }

  #pose() {
    const { face } = this;
    this.#section(
      'Pose',
      this.#slider('Jaw', JAW, () => face.jaw, (x) => (face.jaw = x)),
      this.#slider('Gaze across', GAZE, () => face.gaze[0], (x) => (face.gaze[0] = x)),
      this.#slider('Gaze down', GAZE, () => face.gaze[1], (x) => (face.gaze[1] = x)),
      this.#slider('Head across', TURN, () => face.turn[0], (x) => (face.turn[0] = x)),
      this.#slider('Head down', TURN, () => face.turn[1], (x) => (face.turn[1] = x)),
    );
  }

  #expressions() {
    const { expression } = this.stage.codes;
    const rows = this.packs[0].expressions.map(({ name, low, high }, i) =>
      this.#slider(name, [low, high], () => expression[i], (x) => (expression[i] = x)),
    );
    const search = make('input', { type: 'search', placeholder: 'search', id: 'search' });
    search.setAttribute('aria-label', 'search expressions');
    search.oninput = () => {
      const words = search.value.toLowerCase();
      for (const row of rows) row.hidden = !row.dataset.name.includes(words);
    };
    this.#section('Expressions', search, ...rows);
  }

  #slider(name, [min, max], read, write) {
    const input = make('input', { type: 'range', min, max, step: 'any', value: read() });
    input.dataset.slider = name;
    input.oninput = () => {
      this.playback?.stop();
      write(Number(input.value));
      this.#apply();
    };
    this.sliders.push(() => (input.value = read()));
    const row = make('label', { className: 'slider' }, make('span', { textContent: name }), input);
    row.dataset.name = name.toLowerCase();
    return row;
  }

  // Jaw, gaze and head into the codes; rotations from one axis each.
  #apply() {
    const { codes } = this.stage;
    const { jaw, gaze, turn } = this.face;
    setPose(codes, 'jaw', [jaw, 0, 0]);
    setPose(codes, 'eyes', [gaze[1], gaze[0], 0, gaze[1], gaze[0], 0]);
    setPose(codes, 'neck', [turn[1], turn[0], 0]);
    this.stage.pose();
  }

  #refresh() {
    for (const refresh of this.sliders) refresh();
  }

  // The sliders show what plays.
  #follow() {
    const { pose } = this.stage.codes;
    this.face.jaw = pose[6];
    this.face.gaze = [pose[10], pose[9]];
    this.face.turn = [pose[4], pose[3]];
    this.#refresh();
  }

  #keys() {
    const { stage } = this;
    const moves = {
      ArrowLeft: () => stage.orbit(-STEP, 0),
      ArrowRight: () => stage.orbit(STEP, 0),
      ArrowUp: () => stage.orbit(0, STEP),
      ArrowDown: () => stage.orbit(0, -STEP),
      '+': () => stage.orbit(0, 0, 1 / 1.1),
      '-': () => stage.orbit(0, 0, 1.1),
      Home: () => stage.goHome(),
      ' ': () => this.playback?.toggle(),
    };
    stage.element.addEventListener('keydown', (event) => {
      const move = moves[event.key];
      if (!move || event.ctrlKey || event.altKey || event.metaKey) return;
      event.preventDefault();
      move();
    });
  }
}
