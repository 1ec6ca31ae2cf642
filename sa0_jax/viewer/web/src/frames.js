// Frames of the posed mesh's triangles, as sa0_jax/avatar/binding.py.

const EPSILON = 1e-16; // added to squared lengths: collapsed triangles stay finite

// vertices [3·v], faces [3·f] → out [8·f]: centre, scale, quaternion (x, y, z, w).
export function triangleFrames(vertices, faces, out) {
  for (let f = 0, at = 0; f < faces.length; f += 3, at += 8) {
    const [i, j, k] = [3 * faces[f], 3 * faces[f + 1], 3 * faces[f + 2]];
    const [px, py, pz] = [vertices[i], vertices[i + 1], vertices[i + 2]];
    const [ex, ey, ez] = [vertices[j] - px, vertices[j + 1] - py, vertices[j + 2] - pz];
    const [ox, oy, oz] = [vertices[k] - px, vertices[k + 1] - py, vertices[k + 2] - pz];
    const length = Math.sqrt(ex * ex + ey * ey + ez * ez + EPSILON);
    const [ax, ay, az] = [ex / length, ey / length, ez / length];
    let [nx, ny, nz] = [ay * oz - az * oy, az * ox - ax * oz, ax * oy - ay * ox];
    const area = Math.sqrt(nx * nx + ny * ny + nz * nz + EPSILON);
    nx /= area;
    ny /= area;
    nz /= area;
    const [cx, cy, cz] = [ay * nz - az * ny, az * nx - ax * nz, ax * ny - ay * nx];
    out[at] = px + (ex + ox) / 3;
    out[at + 1] = py + (ey + oy) / 3;
    out[at + 2] = pz + (ez + oz) / 3;
    out[at + 3] = 0.5 * (length + Math.abs(cx * ox + cy * oy + cz * oz));
    // Columns of the rotation: the edge, the normal, and what completes them.
    quaternion(ax, nx, cx, ay, ny, cy, az, nz, cz, out, at + 4);
  }
  return out;
}

// The largest of the four components is taken from the diagonal: accurate at every rotation.
function quaternion(m00, m01, m02, m10, m11, m12, m20, m21, m22, out, at) {
  let [w, x, y, z] = [m21 - m12, m21 - m12, m02 - m20, m10 - m01];
  const trace = m00 + m11 + m22;
  const largest = Math.max(trace, m00, m11, m22);
  if (largest === trace) {
    w = 1 + trace;
  } else if (largest === m00) {
    [w, x, y, z] = [m21 - m12, 1 + m00 - m11 - m22, m10 + m01, m02 + m20];
  } else if (largest === m11) {
    [w, x, y, z] = [m02 - m20, m10 + m01, 1 - m00 + m11 - m22, m12 + m21];
  } else {
    [w, x, y, z] = [m10 - m01, m02 + m20, m12 + m21, 1 - m00 - m11 + m22];
  }
  const norm = 1 / Math.sqrt(w * w + x * x + y * y + z * z);
  out[at] = x * norm;
  out[at + 1] = y * norm;
  out[at + 2] = z * norm;
  out[at + 3] = w * norm;
}
