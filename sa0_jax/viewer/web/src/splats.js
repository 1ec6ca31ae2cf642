// Bound Gaussians as a generator of Spark's: a shader that carries each along with its triangle.
//
//     x = s R x_local + c,  q = q_R ⊗ q_local,  scale = s · scale_local
//
// What never changes lies in textures; per frame the page uploads one more, two texels a triangle.

import { SplatGenerator, dyno } from '@sparkjsdev/spark';
import * as THREE from 'three';

const WIDTH = 1024; // texels; even, so that a triangle's two lie in one row
const POINT_SIZE = 4e-4; // metres, where Gaussians are shown as points

function dataTexture(data) {
  const height = Math.max(1, Math.ceil(data.length / 4 / WIDTH));
  const padded = new Float32Array(4 * WIDTH * height);
  padded.set(data);
  const texture = new THREE.DataTexture(padded, WIDTH, height, THREE.RGBAFormat, THREE.FloatType);
  texture.needsUpdate = true;
  return texture;
}

// Rows of `columns`, each array [width, scale] beside the others, as one RGBA texture.
function columns(count, ...parts) {
  const data = new Float32Array(4 * count);
  let column = 0;
  for (const { values, width, scale } of parts) {
    const stride = values.length / count;
    for (const from of width) {
      for (let i = 0; i < count; i++) data[4 * i + column] = values[stride * i + from] * scale;
      column++;
    }
  }
  return dataTexture(data);
}

function part(array, width, scale = 1) {
  return { values: array.data, width, scale };
}

export class BoundSplats extends SplatGenerator {
  constructor(pack) {
    const { arrays } = pack;
    const count = arrays.gaussian_face.data.length;
    const position = arrays.gaussian_position;
    const rgba = arrays.gaussian_rgba;
    const textures = {
      place: columns(count, part(position, [0, 1, 2]), part(arrays.gaussian_face, [0])),
      turn: columns(count, part(arrays.gaussian_rotation, [1, 2, 3, 0], 1 / 32767)),
      size: columns(count, part(arrays.gaussian_scale, [0, 1, 2]), part(rgba, [3], 1 / 65535)),
      color: columns(count, part(rgba, [0, 1, 2], 1 / 65535)),
    };
    const frames = dataTexture(new Float32Array((8 * arrays.faces.data.length) / 3));
    const points = new dyno.DynoFloat({ value: 0 });
    super({ numSplats: count, generator: generator({ ...textures, frames }, points) });
    this.frames = frames;
    this.points = points;
  }

  // Where triangleFrames writes; call `moved` afterwards.
  get frameData() {
    return this.frames.image.data;
  }

  moved() {
    this.frames.needsUpdate = true;
    this.updateVersion();
  }

  showPoints(on) {
    this.points.value = on ? POINT_SIZE : 0;
    this.updateVersion();
  }
}

function generator(textures, points) {
  const samplers = Object.fromEntries(
    Object.entries(textures).map(([name, value]) => [name, new dyno.DynoSampler2D({ value })]),
  );
  const types = Object.fromEntries(Object.keys(textures).map((name) => [name, 'sampler2D']));
  return dyno.dynoBlock({ index: 'int' }, { gsplat: dyno.Gsplat }, ({ index }) => {
    const bind = new dyno.Dyno({
      inTypes: { index: 'int', points: 'float', ...types },
      outTypes: { gsplat: dyno.Gsplat },
      inputs: { index, points, ...samplers },
      globals: () => [dyno.defineGsplat],
      // The encoder takes acos of the quaternion's w, which rounding may leave above 1.
      statements: ({ inputs, outputs }) => dyno.unindentLines(`
        {
        ivec2 at = ivec2(${inputs.index} % ${WIDTH}, ${inputs.index} / ${WIDTH});
        vec4 place = texelFetch(${inputs.place}, at, 0);
        vec4 turn = texelFetch(${inputs.turn}, at, 0);
        vec4 size = texelFetch(${inputs.size}, at, 0);
        vec4 color = texelFetch(${inputs.color}, at, 0);
        int texel = 2 * int(place.w);
        ivec2 face = ivec2(texel % ${WIDTH}, texel / ${WIDTH});
        vec4 frame = texelFetch(${inputs.frames}, face, 0);
        vec4 frameTurn = texelFetch(${inputs.frames}, face + ivec2(1, 0), 0);
        ${outputs.gsplat}.flags = GSPLAT_FLAG_ACTIVE;
        ${outputs.gsplat}.index = ${inputs.index};
        ${outputs.gsplat}.center = frame.w * quatVec(frameTurn, place.xyz) + frame.xyz;
        ${outputs.gsplat}.scales = ${inputs.points} > 0.0 ? vec3(${inputs.points}) : frame.w * size.xyz;
        ${outputs.gsplat}.quaternion = clamp(normalize(quatQuat(frameTurn, turn)), -1.0, 1.0);
        ${outputs.gsplat}.rgba = vec4(color.rgb, ${inputs.points} > 0.0 ? 0.99 : min(size.w, 0.99));
        }
      `),
    });
    return { gsplat: bind.outputs.gsplat };
  });
}
