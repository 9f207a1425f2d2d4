// Draws a packed splat with WebGL2: sorted by depth on the CPU, one instanced quad a Gaussian, blended back to front
// (Kerbl et al., 3D Gaussian Splatting, 2023; Zwicker et al., EWA Splatting, 2002).  No dependency, no network.
"use strict";

const VERTEX = `#version 300 es
precision highp float;
precision highp int;
uniform highp sampler2D places;      // xyz, opacity
uniform highp sampler2D shapes;      // two texels a Gaussian: xx xy xz yy, yz zz
uniform highp sampler2D before, after;
uniform float share;                 // of the light that comes
uniform mat3 cameraFromWorld;        // rows: right, down, forward
uniform vec3 eye;
uniform vec2 focal, size;            // pixels
in vec2 corner;
in uint row;
out vec2 offset;
out vec4 color;
const int WIDTH = 2048;
void main() {
  int i = int(row);
  vec4 place = texelFetch(places, ivec2(i % WIDTH, i / WIDTH), 0);
  vec3 p = cameraFromWorld * (place.xyz - eye);
  gl_Position = vec4(2.0, 2.0, 2.0, 1.0);
  if (p.z < 0.02) return;
  int j = 2 * i;
  vec4 a = texelFetch(shapes, ivec2(j % WIDTH, j / WIDTH), 0);
  vec4 b = texelFetch(shapes, ivec2((j + 1) % WIDTH, (j + 1) / WIDTH), 0);
  mat3 world = mat3(a.x, a.y, a.z, a.y, a.w, b.x, a.z, b.x, b.y);
  mat3 local = cameraFromWorld * world * transpose(cameraFromWorld);
  // Far outside the picture the linearisation blows up.
  vec2 limit = 0.65 * size / focal;
  vec2 t = clamp(p.xy / p.z, -limit, limit);
  vec3 u = vec3(focal.x, 0.0, -focal.x * t.x) / p.z, v = vec3(0.0, focal.y, -focal.y * t.y) / p.z;
  float xx = dot(u, local * u) + 0.3, yy = dot(v, local * v) + 0.3, xy = dot(u, local * v);
  float middle = 0.5 * (xx + yy), radius = sqrt(max(0.25 * (xx - yy) * (xx - yy) + xy * xy, 1e-9));
  float major = middle + radius, minor = max(middle - radius, 0.05);
  vec2 axis = abs(xy) > 1e-6 ? normalize(vec2(xy, major - xx)) : (xx >= yy ? vec2(1.0, 0.0) : vec2(0.0, 1.0));
  // To where alpha falls below 1/255.
  float reach = sqrt(2.0 * log(max(255.0 * place.w, 1.001)));
  offset = corner * reach;
  vec2 pixel = offset.x * sqrt(major) * axis + offset.y * sqrt(minor) * vec2(-axis.y, axis.x);
  vec2 middleOfIt = focal * p.xy / p.z + pixel;
  gl_Position = vec4(middleOfIt.x / (0.5 * size.x), -middleOfIt.y / (0.5 * size.y), 0.0, 1.0);
  ivec2 texel = ivec2(i % WIDTH, i / WIDTH);
  color = vec4(mix(texelFetch(before, texel, 0).rgb, texelFetch(after, texel, 0).rgb, share), place.w);
}`;

const FRAGMENT = `#version 300 es
precision highp float;
in vec2 offset;
in vec4 color;
out vec4 shown;
void main() {
  float alpha = min(0.99, color.a * exp(-0.5 * dot(offset, offset)));
  if (alpha < 1.0 / 255.0) discard;
  shown = vec4(color.rgb * alpha, alpha);
}`;

const WIDTH = 2048;

function bytes(text) {
  return Uint8Array.from(atob(text), (c) => c.charCodeAt(0));
}

// Positions: 16 bits within the box.  Scales: 8 bits between the smallest and the largest logarithm.  Rotations: 8 bits
// a component, wxyz.  Opacities: 8 bits.  Colours: 8 bits, sRGB-encoded, one set a light.
function unpack(data) {
  const n = data.count, raw = bytes(data.places), q = new Uint16Array(raw.buffer, 0, 3 * n);
  const scales = bytes(data.scales), quats = bytes(data.quats), opacity = bytes(data.opacities);
  const rows = Math.ceil((2 * n) / WIDTH) || 1;
  const places = new Float32Array(4 * WIDTH * rows), shapes = new Float32Array(4 * WIDTH * rows);
  const low = data.low, extent = data.high.map((h, k) => (h - low[k]) / 65535);
  for (let i = 0; i < n; i++) {
    for (let k = 0; k < 3; k++) places[4 * i + k] = low[k] + extent[k] * q[3 * i + k];
    places[4 * i + 3] = opacity[i] / 255;
    const s = [0, 1, 2].map((k) => Math.exp(data.scale_low + (data.scale_high - data.scale_low) * scales[3 * i + k] / 255));
    let [w, x, y, z] = [0, 1, 2, 3].map((k) => quats[4 * i + k] / 127.5 - 1);
    const length = Math.hypot(w, x, y, z) || 1;
    w /= length; x /= length; y /= length; z /= length;
    const m = [
      s[0] * (1 - 2 * (y * y + z * z)), s[1] * 2 * (x * y - w * z), s[2] * 2 * (x * z + w * y),
      s[0] * 2 * (x * y + w * z), s[1] * (1 - 2 * (x * x + z * z)), s[2] * 2 * (y * z - w * x),
      s[0] * 2 * (x * z - w * y), s[1] * 2 * (y * z + w * x), s[2] * (1 - 2 * (x * x + y * y)),
    ];
    const dot = (a, b) => m[3 * a] * m[3 * b] + m[3 * a + 1] * m[3 * b + 1] + m[3 * a + 2] * m[3 * b + 2];
    shapes.set([dot(0, 0), dot(0, 1), dot(0, 2), dot(1, 1), dot(1, 2), dot(2, 2), 0, 0], 8 * i);
  }
  return { n, rows, places, shapes };
}

function start(data) {
  const canvas = document.querySelector("canvas"), say = document.querySelector("#say");
  const gl = canvas.getContext("webgl2", { alpha: false, antialias: false, preserveDrawingBuffer: true });
  if (!gl) {
    say.textContent = "This browser has no WebGL2.";
    return;
  }
  const splat = unpack(data);

  const program = gl.createProgram();
  for (const [kind, text] of [[gl.VERTEX_SHADER, VERTEX], [gl.FRAGMENT_SHADER, FRAGMENT]]) {
    const shader = gl.createShader(kind);
    gl.shaderSource(shader, text);
    gl.compileShader(shader);
    if (!gl.getShaderParameter(shader, gl.COMPILE_STATUS)) throw new Error(gl.getShaderInfoLog(shader));
    gl.attachShader(program, shader);
  }
  gl.bindAttribLocation(program, 0, "corner");
  gl.bindAttribLocation(program, 1, "row");
  gl.linkProgram(program);
  if (!gl.getProgramParameter(program, gl.LINK_STATUS)) throw new Error(gl.getProgramInfoLog(program));
  gl.useProgram(program);
  const at = (name) => gl.getUniformLocation(program, name);
  const uniform = Object.fromEntries(
    ["places", "shapes", "before", "after", "share", "cameraFromWorld", "eye", "focal", "size"].map((n) => [n, at(n)]));

  function texture(internal, format, type, rows, values) {
    const made = gl.createTexture();
    gl.bindTexture(gl.TEXTURE_2D, made);
    gl.texParameteri(gl.TEXTURE_2D, gl.TEXTURE_MIN_FILTER, gl.NEAREST);
    gl.texParameteri(gl.TEXTURE_2D, gl.TEXTURE_MAG_FILTER, gl.NEAREST);
    gl.texImage2D(gl.TEXTURE_2D, 0, internal, WIDTH, rows, 0, format, type, values);
    return made;
  }
  const places = texture(gl.RGBA32F, gl.RGBA, gl.FLOAT, splat.rows, splat.places);
  const shapes = texture(gl.RGBA32F, gl.RGBA, gl.FLOAT, splat.rows, splat.shapes);
  const lights = data.lights.map((light) => {
    const rgb = bytes(light.colors), rgba = new Uint8Array(4 * WIDTH * splat.rows).fill(255);
    for (let i = 0; i < splat.n; i++) for (let k = 0; k < 3; k++) rgba[4 * i + k] = rgb[3 * i + k];
    return texture(gl.RGBA8, gl.RGBA, gl.UNSIGNED_BYTE, splat.rows, rgba);
  });

  const corners = gl.createBuffer(), order = gl.createBuffer();
  gl.bindBuffer(gl.ARRAY_BUFFER, corners);
  gl.bufferData(gl.ARRAY_BUFFER, new Float32Array([-1, -1, 1, -1, -1, 1, 1, 1]), gl.STATIC_DRAW);
  gl.enableVertexAttribArray(0);
  gl.vertexAttribPointer(0, 2, gl.FLOAT, false, 0, 0);
  gl.bindBuffer(gl.ARRAY_BUFFER, order);
  gl.bufferData(gl.ARRAY_BUFFER, 4 * splat.n, gl.DYNAMIC_DRAW);
  gl.enableVertexAttribArray(1);
  gl.vertexAttribIPointer(1, 1, gl.UNSIGNED_INT, 0, 0);
  gl.vertexAttribDivisor(1, 1);
  gl.enable(gl.BLEND);
  gl.blendFunc(gl.ONE, gl.ONE_MINUS_SRC_ALPHA);

  const view = { ...data.view, target: [...data.view.target] };
  const state = { now: 0, next: 0, share: 0, changed: true, turned: true };
  const up = data.up, ahead = data.ahead;
  const cross = (a, b) => [a[1] * b[2] - a[2] * b[1], a[2] * b[0] - a[0] * b[2], a[0] * b[1] - a[1] * b[0]];
  const unit = (a) => a.map((x) => x / Math.hypot(...a));
  const side = cross(up, ahead);

  function camera() {
    const c = Math.cos(view.yaw), s = Math.sin(view.yaw), e = view.pitch;
    const out = [0, 1, 2].map((k) => Math.cos(e) * (c * ahead[k] + s * side[k]) + Math.sin(e) * up[k]);
    const forward = out.map((x) => -x), right = unit(cross(forward, up)), down = cross(forward, right);
    return { eye: view.target.map((t, k) => t + view.distance * out[k]), right, down, forward };
  }

  // By depth, in one pass of counting; 16 bits are finer than anybody sees.
  const keys = new Uint16Array(splat.n), sorted = new Uint32Array(splat.n), counts = new Uint32Array(65537);
  function sort(eye, forward) {
    const p = splat.places, depths = new Float32Array(splat.n);
    let near = Infinity, far = -Infinity;
    for (let i = 0; i < splat.n; i++) {
      const d = (p[4 * i] - eye[0]) * forward[0] + (p[4 * i + 1] - eye[1]) * forward[1] + (p[4 * i + 2] - eye[2]) * forward[2];
      depths[i] = d;
      if (d < near) near = d;
      if (d > far) far = d;
    }
    counts.fill(0);
    const scale = 65535 / Math.max(far - near, 1e-9);
    for (let i = 0; i < splat.n; i++) {
      keys[i] = (far - depths[i]) * scale;
      counts[keys[i] + 1]++;
    }
    for (let k = 1; k < 65537; k++) counts[k] += counts[k - 1];
    for (let i = 0; i < splat.n; i++) sorted[counts[keys[i]]++] = i;
    gl.bindBuffer(gl.ARRAY_BUFFER, order);
    gl.bufferSubData(gl.ARRAY_BUFFER, 0, sorted);
  }

  function draw() {
    const ratio = Math.min(window.devicePixelRatio || 1, 2);
    const w = Math.max(1, Math.round(canvas.clientWidth * ratio)), h = Math.max(1, Math.round(canvas.clientHeight * ratio));
    if (canvas.width !== w || canvas.height !== h) {
      canvas.width = w;
      canvas.height = h;
    }
    const { eye, right, down, forward } = camera();
    if (state.turned) sort(eye, forward);
    // The narrower side shows what the photograph's narrower side did.
    const focal = 0.5 * Math.min(w, h) / Math.tan(0.5 * view.fov);
    gl.viewport(0, 0, w, h);
    gl.clearColor(0.07, 0.07, 0.08, 1);
    gl.clear(gl.COLOR_BUFFER_BIT);
    [[places, "places"], [shapes, "shapes"], [lights[state.now], "before"], [lights[state.next], "after"]].forEach(
      ([what, name], i) => {
        gl.activeTexture(gl.TEXTURE0 + i);
        gl.bindTexture(gl.TEXTURE_2D, what);
        gl.uniform1i(uniform[name], i);
      });
    gl.uniform1f(uniform.share, state.share);
    gl.uniformMatrix3fv(uniform.cameraFromWorld, true, [...right, ...down, ...forward]);
    gl.uniform3fv(uniform.eye, eye);
    gl.uniform2f(uniform.focal, focal, focal);
    gl.uniform2f(uniform.size, w, h);
    gl.drawArraysInstanced(gl.TRIANGLE_STRIP, 0, 4, splat.n);
    state.turned = false;
    document.body.dataset.drawn = String(Number(document.body.dataset.drawn || 0) + 1);
  }

  let last = 0;
  function frame(time) {
    if (state.now !== state.next) {
      state.share = Math.min(1, state.share + (time - last) / 400);
      if (state.share === 1) [state.now, state.share] = [state.next, 0];
      state.changed = true;
    }
    last = time;
    if (state.changed) draw();
    state.changed = state.now !== state.next;
    if (state.changed) requestAnimationFrame(frame);
    else asleep = true;
  }
  let asleep = true;
  function wake(turned) {
    state.changed = true;
    state.turned ||= turned;
    if (asleep) {
      asleep = false;
      last = performance.now();
      requestAnimationFrame(frame);
    }
  }

  const bar = document.querySelector("#lights");
  data.lights.forEach((light, i) => {
    const button = document.createElement("button");
    button.textContent = light.name;
    button.setAttribute("aria-pressed", String(i === 0));
    button.onclick = () => {
      if (state.now !== state.next) state.now = state.next;
      [state.next, state.share] = [i, 0];
      bar.querySelectorAll("button").forEach((b, k) => b.setAttribute("aria-pressed", String(k === i)));
      wake(false);
    };
    bar.append(button);
  });

  const fingers = new Map();
  canvas.addEventListener("pointerdown", (e) => {
    canvas.setPointerCapture(e.pointerId);
    fingers.set(e.pointerId, e);
    say.hidden = true;
  });
  const gone = (e) => fingers.delete(e.pointerId);
  canvas.addEventListener("pointerup", gone);
  canvas.addEventListener("pointercancel", gone);
  function pan(dx, dy) {
    const { right, down } = camera(), step = 2 * view.distance * Math.tan(0.5 * view.fov) / canvas.clientHeight;
    for (let k = 0; k < 3; k++) view.target[k] -= step * (dx * right[k] + dy * down[k]);
  }
  function zoom(factor) {
    view.distance = Math.min(Math.max(view.distance * factor, 0.1 * data.view.distance), 10 * data.view.distance);
  }
  canvas.addEventListener("pointermove", (e) => {
    const before = fingers.get(e.pointerId);
    if (!before) return;
    const dx = e.clientX - before.clientX, dy = e.clientY - before.clientY;
    if (fingers.size === 2) {
      const other = [...fingers.values()].find((f) => f.pointerId !== e.pointerId);
      const apart = (f) => Math.hypot(f.clientX - other.clientX, f.clientY - other.clientY) || 1;
      zoom(apart(before) / apart(e));
      pan(dx / 2, dy / 2);
    } else if (e.buttons & 2 || e.shiftKey) {
      pan(dx, dy);
    } else {
      view.yaw -= 0.006 * dx;
      view.pitch = Math.min(1.5, Math.max(-1.5, view.pitch + 0.006 * dy));
    }
    fingers.set(e.pointerId, e);
    wake(true);
  });
  canvas.addEventListener("wheel", (e) => {
    e.preventDefault();
    zoom(Math.exp(0.001 * e.deltaY));
    wake(true);
  }, { passive: false });
  canvas.addEventListener("contextmenu", (e) => e.preventDefault());
  canvas.addEventListener("keydown", (e) => {
    const step = { ArrowLeft: [0.1, 0], ArrowRight: [-0.1, 0], ArrowUp: [0, 0.1], ArrowDown: [0, -0.1] }[e.key];
    if (step) [view.yaw, view.pitch] = [view.yaw + step[0], Math.min(1.5, Math.max(-1.5, view.pitch + step[1]))];
    else if (e.key === "+" || e.key === "-") zoom(e.key === "+" ? 0.9 : 1.1);
    else return;
    e.preventDefault();
    wake(true);
  });
  new ResizeObserver(() => wake(false)).observe(canvas);
  wake(true);
}

start(JSON.parse(document.querySelector("#splat").textContent));
