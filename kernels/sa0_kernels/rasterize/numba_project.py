"""Projection of Gaussians and its adjoint, one at a time (see `sa0_kernels.projection`)."""

from typing import no_type_check

import numba
import numpy as np

from sa0_kernels.numba_math import FAST, F
from sa0_kernels.rasterize.numba_layout import (
  CONIC_A,
  CONIC_B,
  CONIC_C,
  EXPONENT_MAX,
  GRADIENT_COLUMNS,
  OPACITY,
  REACH_Y,
  X,
  Y,
)

CAMERA_GRADIENTS = 16  # twelve of world_to_camera's first three rows, then fx, fy, cx, cy
_BLOCKS = 64  # camera gradients are summed in this many fixed parts, whatever the thread count

# Entries of the `constants` array the kernels take.
BLUR, ALPHA_MAX, ALPHA_MIN, TRANSMITTANCE_MIN, NEAR, LOW_X, HIGH_X, LOW_Y, HIGH_Y = range(9)


@numba.njit(fastmath=FAST)
@no_type_check
def _rotation(quats, i):
  """Rotation matrix entries of the normalised quaternion, row by row, and the unit quaternion."""
  qw, qx, qy, qz = quats[i, 0], quats[i, 1], quats[i, 2], quats[i, 3]
  inverse = F(1) / np.sqrt(qw * qw + qx * qx + qy * qy + qz * qz)
  w, x, y, z = qw * inverse, qx * inverse, qy * inverse, qz * inverse
  one, two = F(1), F(2)
  return (
    one - two * (y * y + z * z),
    two * (x * y - w * z),
    two * (x * z + w * y),
    two * (x * y + w * z),
    one - two * (x * x + z * z),
    two * (y * z - w * x),
    two * (x * z - w * y),
    two * (y * z + w * x),
    one - two * (x * x + y * y),
    w,
    x,
    y,
    z,
    inverse,
  )


@numba.njit(fastmath=FAST)
@no_type_check
def _clamp(value, low, high):
  return min(max(value, low), high)


@numba.njit(fastmath=FAST)
@no_type_check
def _to_camera(means, view, i):
  m0, m1, m2 = means[i, 0], means[i, 1], means[i, 2]
  return (
    view[0, 0] * m0 + view[0, 1] * m1 + view[0, 2] * m2 + view[0, 3],
    view[1, 0] * m0 + view[1, 1] * m1 + view[1, 2] * m2 + view[1, 3],
    view[2, 0] * m0 + view[2, 1] * m1 + view[2, 2] * m2 + view[2, 3],
  )


@numba.njit(fastmath=FAST)
@no_type_check
def _finite(value):
  return abs(value) <= F(3.4028235e38)  # false for NaN


@numba.njit(fastmath=FAST)
@no_type_check
def _is_valid(means, quats, scales, opacities, features, i):
  """All inputs finite, a rotation, no negative scale (the same rule as every implementation)."""
  valid = _finite(opacities[i])
  for j in range(3):
    valid &= _finite(means[i, j]) & _finite(scales[i, j]) & (scales[i, j] >= F(0))
  length = F(0)
  for j in range(4):
    length += quats[i, j] * quats[i, j]
  valid &= _finite(length) & (length > F(1e-12))
  for j in range(features.shape[1]):
    valid &= _finite(features[i, j])
  return valid


@numba.njit(parallel=True, fastmath=FAST, cache=True)
@no_type_check
def project(gaussians, pinhole, splats, depth):
  """Fills packed splat rows and depths; depth is infinite where there is nothing to draw.

  Args:
    gaussians: (means, quats, scales, opacities, features).
    pinhole: (world_to_camera, intrinsics, constants); constants are indexed by BLUR, ALPHA_MAX, ….
    splats: [n, 8] output.
    depth: [n] output.

  Returns:
    How many Gaussians are invalid (not finite, no rotation, negative scale).
  """
  means, quats, scales, opacities, features = gaussians
  view, intrinsics, constants = pinhole
  fx, fy, cx, cy = intrinsics[0], intrinsics[1], intrinsics[2], intrinsics[3]
  invalid = 0
  for i in numba.prange(means.shape[0]):
    depth[i] = np.inf
    if not _is_valid(means, quats, scales, opacities, features, i):
      invalid += 1
      continue
    px, py, pz = _to_camera(means, view, i)
    if pz <= constants[NEAR] or opacities[i] <= constants[ALPHA_MIN]:
      continue
    inverse_depth = F(1) / pz
    slope_x, slope_y = px * inverse_depth, py * inverse_depth
    j00, j11 = fx * inverse_depth, fy * inverse_depth
    j02 = -j00 * _clamp(slope_x, constants[LOW_X], constants[HIGH_X])
    j12 = -j11 * _clamp(slope_y, constants[LOW_Y], constants[HIGH_Y])
    r = _rotation(quats, i)
    xx, xy, yy = constants[BLUR], F(0), constants[BLUR]
    for k in range(3):
      if k == 0:
        c0, c1, c2, s = r[0], r[3], r[6], scales[i, 0]
      elif k == 1:
        c0, c1, c2, s = r[1], r[4], r[7], scales[i, 1]
      else:
        c0, c1, c2, s = r[2], r[5], r[8], scales[i, 2]
      v0 = view[0, 0] * c0 + view[0, 1] * c1 + view[0, 2] * c2
      v1 = view[1, 0] * c0 + view[1, 1] * c1 + view[1, 2] * c2
      v2 = view[2, 0] * c0 + view[2, 1] * c1 + view[2, 2] * c2
      u, v = (j00 * v0 + j02 * v2) * s, (j11 * v1 + j12 * v2) * s
      xx += u * u
      xy += u * v
      yy += v * v
    inverse = F(1) / (xx * yy - xy * xy)
    exponent_max = np.log(opacities[i] / constants[ALPHA_MIN])
    splats[i, X] = fx * slope_x + cx
    splats[i, Y] = fy * slope_y + cy
    splats[i, CONIC_A] = yy * inverse
    splats[i, CONIC_B] = -xy * inverse
    splats[i, CONIC_C] = xx * inverse
    splats[i, OPACITY] = opacities[i]
    splats[i, EXPONENT_MAX] = exponent_max
    splats[i, REACH_Y] = np.sqrt(F(2) * exponent_max * yy)
    if np.isfinite(inverse) and inverse > F(0):
      depth[i] = pz
  return invalid


@numba.njit(fastmath=FAST)
@no_type_check
def _sum_rows(rows, begin, end, total):
  for c in range(total.shape[0]):
    total[c] = F(0)
  for j in range(begin, end):
    for c in range(total.shape[0]):
      total[c] += rows[j, c]


@numba.njit(fastmath=FAST)
@no_type_check
def _covariance_gradient(splats, i, g):
  """Gradient of the 2D covariance entries from that of the conic: −Q G Q, off-diagonal doubled."""
  a, b, c = splats[i, CONIC_A], splats[i, CONIC_B], splats[i, CONIC_C]
  half = F(0.5) * g[3]
  m00, m01 = a * g[2] + b * half, a * half + b * g[4]
  m10, m11 = b * g[2] + c * half, b * half + c * g[4]
  return -(m00 * a + m01 * b), -F(2) * (m00 * b + m01 * c), -(m10 * b + m11 * c)


@numba.njit(fastmath=FAST)
@no_type_check
def _quaternion_gradient(r, g, d_quats, i):
  """Chains the gradient g [3, 3] of the rotation matrix to the un-normalised quaternion."""
  w, x, y, z, inverse = r[9], r[10], r[11], r[12], r[13]
  two = F(2)
  gw = two * (x * (g[2, 1] - g[1, 2]) + y * (g[0, 2] - g[2, 0]) + z * (g[1, 0] - g[0, 1]))
  gx = two * (
    y * (g[0, 1] + g[1, 0])
    + z * (g[0, 2] + g[2, 0])
    + w * (g[2, 1] - g[1, 2])
    - two * x * (g[1, 1] + g[2, 2])
  )
  gy = two * (
    x * (g[0, 1] + g[1, 0])
    + z * (g[1, 2] + g[2, 1])
    + w * (g[0, 2] - g[2, 0])
    - two * y * (g[0, 0] + g[2, 2])
  )
  gz = two * (
    x * (g[0, 2] + g[2, 0])
    + y * (g[1, 2] + g[2, 1])
    + w * (g[1, 0] - g[0, 1])
    - two * z * (g[0, 0] + g[1, 1])
  )
  along = w * gw + x * gx + y * gy + z * gz
  d_quats[i, 0] = (gw - w * along) * inverse
  d_quats[i, 1] = (gx - x * along) * inverse
  d_quats[i, 2] = (gy - y * along) * inverse
  d_quats[i, 3] = (gz - z * along) * inverse


@numba.njit(fastmath=FAST)
@no_type_check
def _jacobian_rows(view, j00, j02, j11, j12):
  """The two rows of J·W: image-plane derivatives along the world axes."""
  return (
    (
      j00 * view[0, 0] + j02 * view[2, 0],
      j00 * view[0, 1] + j02 * view[2, 1],
      j00 * view[0, 2] + j02 * view[2, 2],
    ),
    (
      j11 * view[1, 0] + j12 * view[2, 0],
      j11 * view[1, 1] + j12 * view[2, 1],
      j11 * view[1, 2] + j12 * view[2, 2],
    ),
  )


@numba.njit(fastmath=FAST)
@no_type_check
def _shape_gradient(r, scales, i, rows, g_covariance, d_scales, d_rotation, d_rows):
  """Chains the 2D covariance to scales, rotation matrix and the rows of J·W.

  Σ₂ = U Uᵀ with U = (J W)(R S); one column of U per axis of the Gaussian.
  """
  row_u, row_v = rows
  g_xx, g_xy, g_yy = g_covariance
  for c in range(3):
    d_rows[0, c] = F(0)
    d_rows[1, c] = F(0)
  for axis in range(3):
    if axis == 0:
      c0, c1, c2 = r[0], r[3], r[6]
    elif axis == 1:
      c0, c1, c2 = r[1], r[4], r[7]
    else:
      c0, c1, c2 = r[2], r[5], r[8]
    s = scales[i, axis]
    u = (row_u[0] * c0 + row_u[1] * c1 + row_u[2] * c2) * s
    v = (row_v[0] * c0 + row_v[1] * c1 + row_v[2] * c2) * s
    g_u = F(2) * g_xx * u + g_xy * v
    g_v = F(2) * g_yy * v + g_xy * u
    d_rows[0, 0] += g_u * c0 * s
    d_rows[0, 1] += g_u * c1 * s
    d_rows[0, 2] += g_u * c2 * s
    d_rows[1, 0] += g_v * c0 * s
    d_rows[1, 1] += g_v * c1 * s
    d_rows[1, 2] += g_v * c2 * s
    m0 = row_u[0] * g_u + row_v[0] * g_v
    m1 = row_u[1] * g_u + row_v[1] * g_v
    m2 = row_u[2] * g_u + row_v[2] * g_v
    d_scales[i, axis] = c0 * m0 + c1 * m1 + c2 * m2
    d_rotation[0, axis], d_rotation[1, axis], d_rotation[2, axis] = m0 * s, m1 * s, m2 * s


@numba.njit(fastmath=FAST)
@no_type_check
def _gaussian_gradient(i, g, splats, inputs, pinhole, d_inputs, scratch, d_camera):
  """Chains one Gaussian's image-space gradient g to its inputs; adds its share to the camera's."""
  means, quats, scales = inputs
  view, intrinsics, constants = pinhole
  d_means, d_quats, d_scales = d_inputs
  d_rotation, d_rows = scratch
  px, py, pz = _to_camera(means, view, i)
  inverse_depth = F(1) / pz
  slope_x, slope_y = px * inverse_depth, py * inverse_depth
  tx = _clamp(slope_x, constants[LOW_X], constants[HIGH_X])
  ty = _clamp(slope_y, constants[LOW_Y], constants[HIGH_Y])
  j00, j11 = intrinsics[0] * inverse_depth, intrinsics[1] * inverse_depth
  j02, j12 = -j00 * tx, -j11 * ty
  r = _rotation(quats, i)
  rows = _jacobian_rows(view, j00, j02, j11, j12)
  g_covariance = _covariance_gradient(splats, i, g)
  _shape_gradient(r, scales, i, rows, g_covariance, d_scales, d_rotation, d_rows)
  _quaternion_gradient(r, d_rotation, d_quats, i)

  g00 = g02 = g11 = g12 = F(0)
  for c in range(3):
    g00 += d_rows[0, c] * view[0, c]
    g02 += d_rows[0, c] * view[2, c]
    g11 += d_rows[1, c] * view[1, c]
    g12 += d_rows[1, c] * view[2, c]
    d_camera[c] += j00 * d_rows[0, c]
    d_camera[4 + c] += j11 * d_rows[1, c]
    d_camera[8 + c] += j02 * d_rows[0, c] + j12 * d_rows[1, c]
  # j00 = fx / z, j02 = −fx tx / z, u = fx slope_x + cx; the same for y.
  g_j00, g_j11 = g00 - g02 * tx, g11 - g12 * ty
  g_slope_x = intrinsics[0] * g[0] - F(tx == slope_x) * j00 * g02
  g_slope_y = intrinsics[1] * g[1] - F(ty == slope_y) * j11 * g12
  g_inverse = intrinsics[0] * g_j00 + intrinsics[1] * g_j11 + px * g_slope_x + py * g_slope_y
  g_px, g_py = inverse_depth * g_slope_x, inverse_depth * g_slope_y
  g_pz = -inverse_depth * inverse_depth * g_inverse
  for c in range(3):
    d_means[i, c] = view[0, c] * g_px + view[1, c] * g_py + view[2, c] * g_pz
    d_camera[c] += g_px * means[i, c]
    d_camera[4 + c] += g_py * means[i, c]
    d_camera[8 + c] += g_pz * means[i, c]
  d_camera[3] += g_px
  d_camera[7] += g_py
  d_camera[11] += g_pz
  d_camera[12] += inverse_depth * g_j00 + slope_x * g[0]
  d_camera[13] += inverse_depth * g_j11 + slope_y * g[1]
  d_camera[14] += g[0]
  d_camera[15] += g[1]


@numba.njit(parallel=True, fastmath=FAST, cache=True)
@no_type_check
def project_backward(order, offsets, rows, splats, inputs, pinhole, outputs, d_camera):
  """Sums each Gaussian's instance rows and chains them to its inputs and to the camera.

  Args:
    order: [k] Gaussian of each run of rows; offsets: [k + 1] its first row.
    rows: [m, 6 + c] gradients of x, y, conic A, B, C, opacity and features per instance.
    splats: packed rows of `project`.
    inputs: (means, quats, scales).
    pinhole: (world_to_camera, intrinsics, constants), as in `project`.
    outputs: (d_means, d_quats, d_scales, d_opacities, d_features), zero where nothing is drawn.
    d_camera: [16] world_to_camera's first three rows, then the intrinsics.
  """
  d_means, d_quats, d_scales, d_opacities, d_features = outputs
  partial = np.zeros((_BLOCKS, CAMERA_GRADIENTS), np.float32)
  for block in numba.prange(_BLOCKS):
    g = np.empty(rows.shape[1], np.float32)
    scratch = (np.empty((3, 3), np.float32), np.empty((2, 3), np.float32))
    for k in range(order.shape[0] * block // _BLOCKS, order.shape[0] * (block + 1) // _BLOCKS):
      i = order[k]
      _sum_rows(rows, offsets[k], offsets[k + 1], g)
      d_opacities[i] = g[GRADIENT_COLUMNS - 1]
      for c in range(d_features.shape[1]):
        d_features[i, c] = g[GRADIENT_COLUMNS + c]
      _gaussian_gradient(
        i, g, splats, inputs, pinhole, (d_means, d_quats, d_scales), scratch, partial[block]
      )
  for c in range(CAMERA_GRADIENTS):
    total = 0.0
    for block in range(_BLOCKS):
      total += partial[block, c]
    d_camera[c] = total
