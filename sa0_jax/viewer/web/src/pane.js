// One avatar on one canvas: its rig, its splats, its mesh, seen by a camera all panes share.

import { SparkRenderer } from '@sparkjsdev/spark';
import * as THREE from 'three';

import { triangleFrames } from './frames.js';
import { Head } from './head.js';
import { BoundSplats } from './splats.js';

// What the rasterizer of sa0_kernels does: 0.3 px² added to every covariance, nothing under 1/255,
// nearest in depth first.
const SPLATTING = {
  preBlurAmount: 0.3,
  blurAmount: 0,
  minAlpha: 1 / 255,
  maxStdDev: Math.sqrt(2 * Math.log(255)),
  maxPixelRadius: 4096,
  sortRadial: false,
  accumExtSplats: true, // the other encoding has 8 bits for a scale
  enableLod: false,
};
const NEAR = 0.01; // metres
const FAR = 100;

export class Pane {
  constructor(canvas, pack, onDirty) {
    this.canvas = canvas;
    this.pack = pack;
    this.head = new Head(pack);
    this.renderer = new THREE.WebGLRenderer({ canvas, antialias: false });
    this.scene = new THREE.Scene();
    this.camera = new THREE.PerspectiveCamera(30, 1, NEAR, FAR);
    this.spark = new SparkRenderer({ renderer: this.renderer, onDirty, ...SPLATTING });
    this.splats = new BoundSplats(pack);
    this.scene.add(this.spark, this.splats);
    this.#addMesh();
    this.view = null; // a pinhole camera that overrides the shared one
  }

  #addMesh() {
    const geometry = new THREE.BufferGeometry();
    const positions = new THREE.BufferAttribute(this.head.vertices, 3);
    positions.setUsage(THREE.DynamicDrawUsage);
    geometry.setAttribute('position', positions);
    geometry.setIndex(new THREE.BufferAttribute(this.head.faces, 1));
    const lines = new THREE.MeshBasicMaterial({ color: 0x1060d0, wireframe: true });
    Object.assign(lines, { transparent: true, opacity: 0.25, depthTest: false });
    this.mesh = new THREE.Mesh(geometry, new THREE.MeshNormalMaterial({ flatShading: true }));
    this.wire = new THREE.Mesh(geometry, lines);
    this.wire.renderOrder = 10;
    for (const object of [this.mesh, this.wire]) object.frustumCulled = false;
    this.scene.add(this.mesh, this.wire);
    this.show('splats');
  }

  // 'splats', 'points', 'mesh' or 'both': splats with the mesh's lines over them.
  show(what) {
    this.mesh.visible = what === 'mesh';
    this.wire.visible = what === 'both';
    this.splats.visible = what !== 'mesh';
    this.splats.showPoints(what === 'points');
  }

  background(color) {
    this.renderer.setClearColor(new THREE.Color(color), 1);
  }

  pose(codes) {
    const vertices = this.head.pose(codes);
    triangleFrames(vertices, this.head.faces, this.splats.frameData);
    this.splats.moved();
    this.mesh.geometry.attributes.position.needsUpdate = true;
  }

  resize(width, height, ratio) {
    this.renderer.setPixelRatio(ratio);
    this.renderer.setSize(width, height, false);
  }

  // home: {position, target, focal in heights}; eye: the shared camera.
  render(eye, focal) {
    const { width, height } = this.canvas;
    if (this.view === null) {
      // Narrow pictures keep the head's width in view, wide ones its height.
      const fitted = focal * Math.min(1, width / height);
      this.camera.fov = (360 / Math.PI) * Math.atan(0.5 / fitted);
      this.camera.aspect = width / height;
      this.camera.updateProjectionMatrix();
      this.camera.position.copy(eye.position);
      this.camera.quaternion.copy(eye.quaternion);
    } else {
      this.#pinhole(width, height);
    }
    this.camera.updateMatrixWorld();
    this.renderer.render(this.scene, this.camera);
  }

  // view: {world_to_camera: 16 numbers, row by row; intrinsics: fx, fy, cx, cy; width, height},
  // OpenCV axes; the picture is shown whole.
  #pinhole(width, height) {
    const { world_to_camera: rows, intrinsics, width: w, height: h } = this.view;
    const zoom = Math.min(width / w, height / h);
    const [fx, fy] = [zoom * intrinsics[0], zoom * intrinsics[1]];
    const cx = zoom * (intrinsics[2] - w / 2) + width / 2;
    const cy = zoom * (intrinsics[3] - h / 2) + height / 2;
    const depth = [(FAR + NEAR) / (NEAR - FAR), (2 * FAR * NEAR) / (NEAR - FAR)];
    this.camera.projectionMatrix.set(
      (2 * fx) / width, 0, 1 - (2 * cx) / width, 0,
      0, (2 * fy) / height, (2 * cy) / height - 1, 0,
      0, 0, depth[0], depth[1],
      0, 0, -1, 0,
    );
    this.camera.projectionMatrixInverse.copy(this.camera.projectionMatrix).invert();
    const flip = new THREE.Matrix4().makeScale(1, -1, -1); // y and z of OpenCV point the other way
    const matrix = new THREE.Matrix4().set(...rows).premultiply(flip).invert();
    matrix.decompose(this.camera.position, this.camera.quaternion, this.camera.scale);
  }

  // Whether what is on the canvas is sorted for where things are now.
  get settled() {
    const { spark, splats } = this;
    if (!splats.visible) return true;
    const shown = spark.display.mapping.find(({ node }) => node === splats);
    return !spark.sorting && !spark.sortDirty && shown?.version === splats.version;
  }
}
