/** What the viewer can do something about: the message says what came and how to fix it, and is shown as it is. */
export class Problem extends Error {}
