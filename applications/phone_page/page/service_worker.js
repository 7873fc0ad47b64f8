// Answers the page's requests out of a cache that holds one build of it, whole.

importScripts('files.js');  // VERSION and FILES, written by build.py

const PREFIX = 'phone_page ';
const NAME = PREFIX + VERSION;

async function install() {
  const also = new URL(location).searchParams.get('also') ?? '';
  const cache = await caches.open(NAME);
  // the browser may hold an older build's files: it has to ask whether they are still the same
  await cache.addAll([...FILES, ...also.split(' ').filter(Boolean)].map((url) => new Request(url, {cache: 'no-cache'})));
  await skipWaiting();
}

async function activate() {
  const names = await caches.keys();
  await Promise.all(names.filter((name) => name.startsWith(PREFIX) && name !== NAME).map((name) => caches.delete(name)));
  await clients.claim();
}

async function answer(request) {
  const cache = await caches.open(NAME);
  return await cache.match(request, {ignoreSearch: true}) ?? fetch(request);
}

addEventListener('install', (event) => event.waitUntil(install()));
addEventListener('activate', (event) => event.waitUntil(activate()));
addEventListener('fetch', (event) => {
  if (event.request.method === 'GET') event.respondWith(answer(event.request));
});
