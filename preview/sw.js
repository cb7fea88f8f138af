// The service worker of the pages in this folder. It lies here because a service worker
// answers only beside its script and below; built and shared with other sites is dist/sw.js.
importScripts("dist/sw.js");

// A new one fits the new pages, and nothing of the old one is missed: it kept nothing.
addEventListener("install", () => skipWaiting());
