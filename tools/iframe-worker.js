// Search from a folder: browsers start no worker for a page without a server, so its script runs in a hidden frame.
if (location.protocol === "file:") {
  window.Worker = class extends EventTarget {
    constructor(address) {
      super();
      const frame = document.createElement("iframe");
      frame.hidden = true;
      this.ready = new Promise((resolve) => (frame.onload = resolve));
      frame.srcdoc = "<!doctype html>";
      document.documentElement.append(frame);
      this.ready = this.ready.then(() => this.start(frame.contentWindow, String(address)));
      this.addEventListener("message", (event) => this.onmessage?.(event));
    }

    start(inside, address) {
      this.inside = inside;
      inside.postMessage = (data) => this.dispatchEvent(new MessageEvent("message", { data }));
      const script = inside.document.createElement("script");
      script.src = address;
      return new Promise((resolve) => {
        script.onload = resolve;
        inside.document.body.append(script);
      });
    }

    postMessage(data) {
      this.ready.then(() => this.inside.dispatchEvent(new MessageEvent("message", { data })));
    }

    terminate() {}
  };
}
