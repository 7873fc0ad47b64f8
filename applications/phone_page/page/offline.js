// Keep the page on the device, so that it works without a network once it was loaded.

/**
 * @param {string[]} files that this browser needs beyond those that every browser needs
 * @param {(text: string) => void} say tells the viewer how far it is
 */
export async function keep(files, say) {
  if (!navigator.serviceWorker) {
    say('To keep the page for use without a network, open it from https or from localhost.');
    return;
  }
  const isRenewed = Boolean(navigator.serviceWorker.controller);
  navigator.serviceWorker.addEventListener('controllerchange', () => {
    if (isRenewed) say('A newer page has arrived: reload to see it.');
  });
  try {
    await navigator.serviceWorker.register(`service_worker.js?also=${encodeURIComponent(files.join(' '))}`);
    await navigator.serviceWorker.ready;
    say('The page now works without a network.');
  } catch (error) {
    say(`The page could not be kept for use without a network (${error.message}). Reload it to try again.`);
  }
}
