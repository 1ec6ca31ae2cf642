// Files the page makes: pictures and a turntable clip.

const SECONDS = 6; // a full turn
const FPS = 30;
const TYPES = ['video/mp4;codecs=avc1.42E01E', 'video/webm;codecs=vp9', 'video/webm'];

export function download(blob, name) {
  const link = document.createElement('a');
  link.href = URL.createObjectURL(blob);
  link.download = name;
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 10_000);
}

// One turn of the camera around the head, as {blob, suffix}.
export async function recordTurntable(stage, seconds = SECONDS) {
  if (!window.MediaRecorder) throw new Error('this browser cannot record');
  const type = TYPES.find((candidate) => MediaRecorder.isTypeSupported(candidate));
  if (!type) throw new Error('this browser records no video this page knows');
  const canvas = stage.picture();
  const recorder = new MediaRecorder(canvas.captureStream(FPS), { mimeType: type });
  const parts = [];
  recorder.ondataavailable = ({ data }) => parts.push(data);
  const stopped = new Promise((done) => (recorder.onstop = done));
  recorder.start();
  const start = performance.now();
  let turned = 0;
  while (turned < 1) {
    const time = await new Promise(requestAnimationFrame);
    const next = Math.min(1, (time - start) / (1000 * seconds));
    stage.orbit(2 * Math.PI * Math.max(0, next - turned), 0);
    turned = Math.max(turned, next);
    stage.picture(canvas);
  }
  recorder.stop();
  await stopped;
  return { blob: new Blob(parts, { type }), suffix: type.slice(6).split(';')[0] };
}
