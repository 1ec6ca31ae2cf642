// The head rig, as sa0_jax/head/lbs.py: expression and pose directions, joints, linear blend skinning.

const PARENTS = [-1, 0, 1, 1, 1]; // root, neck, jaw, left eye, right eye
const POSE = { rotation: 0, neck: 3, jaw: 6, eyes: 9, translation: 15 };

// Codes of one frame: expression coefficients and the 18 numbers of POSE (radians, metres).
export function neutralCodes(numExpressions) {
  return { expression: new Float32Array(numExpressions), pose: new Float32Array(18) };
}

export function setPose(codes, part, values) {
  codes.pose.set(values, POSE[part]);
}

export class Head {
  constructor(pack) {
    const { arrays } = pack;
    this.numExpressions = pack.expressions.length;
    this.template = arrays.vertices.data;
    this.faces = arrays.faces.data;
    this.weights = arrays.weights.data;
    this.joints = arrays.joints.data;
    this.jointDirections = arrays.joint_directions.data;
    this.index = arrays.direction_index.data;
    this.scale = arrays.direction_scale.data;
    this.directions = arrays.directions.data;
    this.numVertices = this.template.length / 3;
    this.unposed = new Float32Array(this.template.length);
    this.vertices = new Float32Array(this.template.length);
  }

  // Posed vertices [3·v], metres; the array is reused by the next call.
  pose(codes) {
    const rotations = PARENTS.map((_, joint) => rotationMatrix(codes.pose, 3 * joint));
    this.#deform(codes.expression, rotations);
    this.#skin(transforms(rotations, this.#restJoints(codes.expression)), codes.pose);
    return this.vertices;
  }

  #deform(expression, rotations) {
    const { unposed, directions } = this;
    const size = unposed.length;
    unposed.set(this.template);
    for (let row = 0; row < this.index.length; row++) {
      const which = this.index[row] - this.numExpressions;
      const weight = which < 0 ? expression[this.index[row]] : corrective(rotations, which);
      const factor = weight * this.scale[row];
      if (factor === 0) continue;
      for (let i = 0, at = row * size; i < size; i++, at++) unposed[i] += factor * directions[at];
    }
  }

  #restJoints(expression) {
    const joints = Float64Array.from(this.joints);
    for (let e = 0; e < expression.length; e++) {
      if (expression[e] === 0) continue;
      for (let i = 0; i < 15; i++) joints[i] += expression[e] * this.jointDirections[15 * e + i];
    }
    return joints;
  }

  #skin(chain, pose) {
    const { unposed, vertices, weights, numVertices } = this;
    const [tx, ty, tz] = pose.subarray(POSE.translation, POSE.translation + 3);
    const m = new Float64Array(12);
    for (let v = 0; v < numVertices; v++) {
      m.fill(0);
      for (let j = 0; j < 5; j++) {
        const weight = weights[5 * v + j];
        if (weight === 0) continue;
        const transform = chain[j];
        for (let i = 0; i < 12; i++) m[i] += weight * transform[i];
      }
      const x = unposed[3 * v];
      const y = unposed[3 * v + 1];
      const z = unposed[3 * v + 2];
      vertices[3 * v] = m[0] * x + m[1] * y + m[2] * z + m[9] + tx;
      vertices[3 * v + 1] = m[3] * x + m[4] * y + m[5] * z + m[10] + ty;
      vertices[3 * v + 2] = m[6] * x + m[7] * y + m[8] * z + m[11] + tz;
    }
  }
}

// Element of the rotation matrices of joints 1..4, minus the identity's.
function corrective(rotations, which) {
  const element = which % 9;
  return rotations[1 + Math.floor(which / 9)][element] - (element % 4 === 0 ? 1 : 0);
}

// Rodrigues' formula; row-major.
function rotationMatrix(vector, at) {
  const [x, y, z] = [vector[at], vector[at + 1], vector[at + 2]];
  const squared = x * x + y * y + z * z;
  const angle = Math.sqrt(squared);
  const a = squared < 1e-8 ? 1 - squared / 6 : Math.sin(angle) / angle;
  const half = squared < 1e-8 ? 0.5 - squared / 48 : Math.sin(angle / 2) / angle;
  const b = 2 * half * half;
  return [
    1 - b * (y * y + z * z), b * x * y - a * z, b * x * z + a * y,
    b * x * y + a * z, 1 - b * (x * x + z * z), b * y * z - a * x,
    b * x * z - a * y, b * y * z + a * x, 1 - b * (x * x + y * y),
  ];
}

// Each joint's transform from the rest pose: nine numbers of the rotation, three of the offset.
function transforms(rotations, joints) {
  const chain = [];
  PARENTS.forEach((parent, joint) => {
    const centre = joints.subarray(3 * joint, 3 * joint + 3);
    const rotation = parent < 0 ? rotations[joint] : multiply(chain[parent], rotations[joint]);
    const origin = parent < 0 ? centre : apply(chain[parent], centre);
    const turned = apply([...rotation, 0, 0, 0], centre);
    chain.push([...rotation, ...turned.map((value, i) => origin[i] - value)]);
  });
  return chain;
}

function multiply(a, b) {
  const product = [];
  for (let i = 0; i < 3; i++) {
    for (let j = 0; j < 3; j++) {
      product.push(a[3 * i] * b[j] + a[3 * i + 1] * b[3 + j] + a[3 * i + 2] * b[6 + j]);
    }
  }
  return product;
}

function apply(m, p) {
  return [0, 1, 2].map((i) => m[3 * i] * p[0] + m[3 * i + 1] * p[1] + m[3 * i + 2] * p[2] + m[9 + i]);
}
