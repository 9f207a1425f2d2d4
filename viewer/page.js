// Beside viser's page: a divider to drag in the picture, the view in the address, thumbnails to click, Alt-drag for light.
// Runs again after a reconnection; KEY is put before it by page.py.
window.relightPage?.end();
window.relightPage = (() => {
  const ended = new AbortController();
  const on = (target, kinds, act, options = {}) =>
    kinds.split(" ").forEach((kind) => target.addEventListener(kind, act, { signal: ended.signal, ...options }));
  const shown = { divider: null, left: "", right: "", view: null };
  // Above three.js's canvas lies another that is for viser's own drawings.
  const picture = () => document.querySelector("canvas[data-engine]") ?? document.querySelector("canvas");

  // --- the divider

  const style = document.createElement("style");
  style.textContent = `
    .relight-divider { position: fixed; width: 24px; margin-left: -12px; cursor: ew-resize; touch-action: none;
      z-index: 1; outline: none; }
    .relight-divider::before { content: ""; position: absolute; left: 11px; width: 2px; top: 0; bottom: 0;
      background: #fff; box-shadow: 0 0 3px #000a; }
    .relight-divider::after { content: "\\2039\\2009\\203a"; position: absolute; left: -4px; top: 50%; width: 32px;
      height: 32px; margin-top: -16px; border-radius: 50%; background: #fff; color: #222; font: 600 19px/28px system-ui;
      text-align: center; box-shadow: 0 1px 5px #000a; }
    .relight-divider:focus-visible::after { box-shadow: 0 0 0 3px #e8963c; }
    .relight-divider span { position: absolute; bottom: 14px; padding: 3px 10px; border-radius: 10px; color: #eee;
      background: #000a; font: 12px system-ui; white-space: nowrap; pointer-events: none; user-select: none; }
    .relight-divider .left { right: 26px; } .relight-divider .right { left: 26px; }
    [data-relight-light] { cursor: pointer; }`;
  const line = document.createElement("div");
  line.className = "relight-divider";
  line.tabIndex = 0;
  line.setAttribute("role", "separator");
  line.setAttribute("aria-orientation", "vertical");
  line.setAttribute("aria-label", "Divider");
  line.innerHTML = '<span class="left"></span><span class="right"></span>';
  document.head.append(style);
  document.body.append(line);

  const place = () => {
    const canvas = picture();
    line.hidden = shown.divider === null || !canvas;
    if (line.hidden) return;
    const box = canvas.getBoundingClientRect();
    line.style.left = `${box.left + shown.divider * box.width}px`;
    line.style.top = `${box.top}px`;
    line.style.height = `${box.height}px`;
    line.setAttribute("aria-valuenow", Math.round(100 * shown.divider));
    line.querySelector(".left").textContent = shown.left;
    line.querySelector(".right").textContent = shown.right;
  };
  const divide = (share) => {
    shown.divider = Math.min(1, Math.max(0, share));
    place();
    say({ divider: shown.divider });
  };
  let dragging = false;
  on(line, "pointerdown", (e) => {
    dragging = true;
    line.setPointerCapture(e.pointerId);
    e.preventDefault();
    line.focus({ focusVisible: false });
  });
  on(line, "pointermove", (e) => {
    if (!dragging) return;
    const box = picture().getBoundingClientRect();
    divide((e.clientX - box.left) / box.width);
  });
  on(line, "pointerup pointercancel", () => (dragging = false));
  on(line, "keydown", (e) => {
    const step = { ArrowLeft: -0.02, ArrowRight: 0.02 }[e.key];
    if (step) divide(shown.divider + step), e.preventDefault(), e.stopPropagation();
  });
  const watch = new ResizeObserver(place);
  if (picture()) watch.observe(picture());
  on(window, "resize", place);

  // --- light: Alt and drag turns it, a thumbnail chooses it

  let turning = null;
  on(document, "pointerdown", (e) => {
    if (!e.altKey || e.button !== 0 || e.target !== picture()) return;
    turning = { x: e.clientX, pending: 0 };
    e.stopPropagation();
    e.preventDefault();
  }, { capture: true });
  on(document, "pointermove", (e) => {
    if (!turning) return;
    e.stopPropagation();
    const degrees = (360 * (e.clientX - turning.x)) / picture().clientWidth;
    turning.x = e.clientX;
    say({ turn: degrees });
  }, { capture: true });
  on(document, "pointerup pointercancel", () => (turning = null), { capture: true });
  on(document, "click", (e) => {
    const chosen = e.target.closest?.("[data-relight-light]");
    if (chosen) say({ light: chosen.dataset.relightLight });
  });

  // --- the address

  // Not after "#": viser makes its websocket's address of this one, and none may have that.
  const link = (view) => {
    const address = new URL(location.href);
    address.searchParams.delete("token");
    address.searchParams.set("view", view);
    return address.href;
  };
  let late = 0;
  const write = () => {
    clearTimeout(late);
    // Browsers count how often an address is written.
    late = setTimeout(() => history.replaceState(history.state, "", link(shown.view)), 400);
  };
  const go = () => {
    const view = new URLSearchParams(location.search).get("view");
    if (view) say({ view });
  };
  const copy = async (view) => {
    let done = true;
    try {
      await navigator.clipboard.writeText(link(view));
    } catch {
      // Browsers give no clipboard to pages that come unencrypted from another machine.
      const text = document.createElement("textarea");
      text.value = link(view);
      text.style.position = "fixed";
      document.body.append(text);
      text.select();
      done = document.execCommand("copy");
      text.remove();
    }
    say({ copied: done });
  };

  // --- the server

  const address = new URL(KEY, location.href);
  address.protocol = location.protocol === "https:" ? "wss:" : "ws:";
  address.hash = address.search = "";
  const socket = new WebSocket(address);
  const say = (message) => socket.readyState === WebSocket.OPEN && socket.send(JSON.stringify(message));
  on(socket, "open", go);
  on(socket, "message", (e) => {
    const message = JSON.parse(e.data);
    if (message.copy !== undefined) return copy(message.copy);
    if (dragging) delete message.divider;
    Object.assign(shown, message);
    if (message.view !== undefined) write();
    place();
  });
  on(socket, "close", () => { shown.divider = null; place(); });
  place();

  return {
    end() {
      clearTimeout(late);
      ended.abort();
      watch.disconnect();
      socket.close();
      line.remove();
      style.remove();
    },
  };
})();
