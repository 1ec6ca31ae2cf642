// Reads what sa0_jax/viewer/pack.py writes: a JSON header and little-endian arrays.

const MAGIC = 'SA0VIEW1';
const TYPES = {
  f4: Float32Array,
  u4: Uint32Array,
  i2: Int16Array,
  u2: Uint16Array,
};

// buffer: ArrayBuffer → {name, head, expressions, presets, home, motion?, arrays: {name: {data, shape}}}
export function unpack(buffer) {
  const text = new TextDecoder();
  if (text.decode(new Uint8Array(buffer, 0, 8)) !== MAGIC) {
    throw new Error('this is no avatar of this viewer');
  }
  const length = new DataView(buffer).getUint32(8, true);
  const header = JSON.parse(text.decode(new Uint8Array(buffer, 12, length)));
  const arrays = {};
  for (const [name, { dtype, shape, offset }] of Object.entries(header.arrays)) {
    const count = shape.reduce((a, b) => a * b, 1);
    arrays[name] = { data: new TYPES[dtype](buffer, 12 + length + offset, count), shape };
  }
  return { ...header, arrays };
}
