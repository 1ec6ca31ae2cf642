// A capture's motion, played.

export class Playback {
  constructor(stage, pack, onMove) {
    Object.assign(this, { stage, onMove, ...pack.motion });
    const { arrays } = pack;
    this.expression = arrays.motion_expression;
    this.pose = arrays.motion_pose;
    this.views = arrays.motion_view;
    this.intrinsics = arrays.motion_intrinsics;
    this.length = this.pose.shape[0];
    this.position = 0;
    this.playing = false;
    this.ownCamera = true;
    this.lastTime = 0;
    stage.onFrame((time) => this.#tick(time));
  }

  controls(make) {
    this.button = make('button', { type: 'button', id: 'play', textContent: 'Play' });
    this.button.onclick = () => this.toggle();
    this.scrub = make('input', { type: 'range', id: 'scrub', min: 0, max: this.length - 1, step: 1, value: 0 });
    this.scrub.setAttribute('aria-label', 'frame');
    this.scrub.oninput = () => {
      this.stop();
      this.go(Number(this.scrub.value));
    };
    const camera = make('input', { type: 'checkbox', id: 'own-camera', checked: true });
    camera.onchange = () => {
      this.ownCamera = camera.checked;
      if (camera.checked) this.go(this.position);
      else this.stage.setView(null);
    };
    return make(
      'section',
      {},
      make('h2', { textContent: 'Motion' }),
      make('div', { className: 'buttons' }, this.button, this.scrub),
      make('label', {}, camera, ' camera of the capture'),
    );
  }

  toggle() {
    this.playing = !this.playing;
    this.#show();
  }

  stop() {
    this.playing = false;
    this.#show();
  }

  #show() {
    this.button.textContent = this.playing ? 'Pause' : 'Play';
  }

  go(position) {
    this.position = position;
    const { codes } = this.stage;
    const frame = Math.floor(position);
    codes.expression.set(row(this.expression, frame));
    codes.pose.set(row(this.pose, frame));
    if (this.ownCamera) {
      this.stage.setView({
        world_to_camera: [...this.views.data.subarray(16 * frame, 16 * frame + 16)],
        intrinsics: [...row(this.intrinsics, frame)],
        width: this.width,
        height: this.height,
      });
    }
    this.stage.pose();
    this.scrub.value = frame;
    this.onMove();
  }

  #tick(time) {
    const seconds = (time - this.lastTime) / 1000;
    this.lastTime = time;
    if (!this.playing) return;
    this.go((this.position + seconds * this.fps) % this.length);
  }
}

function row({ data, shape }, index) {
  return data.subarray(shape[1] * index, shape[1] * (index + 1));
}
