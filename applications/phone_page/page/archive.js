// The archive behind a .tflite file: a ZIP whose parts lie in it as they are. Pure functions.

import {Problem} from './problem.js';

const END = 0x06054b50, ENTRY = 0x02014b50, PART = 0x04034b50;  // what the archive's records begin with
const END_BYTES = 22, ENTRY_BYTES = 46, PART_BYTES = 30;  // without names and comments
const LONGEST_COMMENT = 0xffff;

/**
 * The text of a part of the archive at the end of a file.
 *
 * @param {string} name of the file, for messages
 * @param {Uint8Array} bytes of the file
 * @param {string} wanted what the part is called
 * @returns {?string} null if the file has no archive, or no such part
 */
export function partOf(name, bytes, wanted) {
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  const text = (start, length) => new TextDecoder().decode(bytes.subarray(start, start + length));
  const end = endOf(view);
  if (end === null) return null;
  try {
    const entries = view.getUint16(end + 10, true), directory = end - view.getUint32(end + 12, true);
    const before = directory - view.getUint32(end + 16, true);  // where places may be counted from
    for (let at = directory, entry = 0; entry < entries; entry++) {
      expect(view.getUint32(at, true) === ENTRY);
      const nameLength = view.getUint16(at + 28, true);
      if (text(at + ENTRY_BYTES, nameLength) === wanted) {
        const isEncrypted = view.getUint16(at + 8, true) & 1, method = view.getUint16(at + 10, true);
        if (isEncrypted || method) {
          throw new Problem(`${wanted} in ${name} is compressed or encrypted, and must lie there as it is. Export the `
            + 'network again with export_tflite.');
        }
        const part = before + view.getUint32(at + 42, true);
        expect(view.getUint32(part, true) === PART);
        const start = part + PART_BYTES + view.getUint16(part + 26, true) + view.getUint16(part + 28, true);
        const size = view.getUint32(at + 20, true);
        expect(start + size <= directory);
        return text(start, size);
      }
      at += ENTRY_BYTES + nameLength + view.getUint16(at + 30, true) + view.getUint16(at + 32, true);
    }
    return null;
  } catch (error) {
    if (!(error instanceof RangeError)) throw error;
    throw new Problem(`The archive at the end of ${name} is broken. Copy the file again, or export the network again.`);
  }
}

/** Where the archive's last record begins: nothing but its comment follows it. */
function endOf(view) {
  const last = view.byteLength - END_BYTES;
  for (let at = last; at >= Math.max(0, last - LONGEST_COMMENT); at--) {
    if (view.getUint32(at, true) === END && view.getUint16(at + 20, true) === last - at) return at;
  }
  return null;
}

/** Places outside of the file end in a RangeError, too. */
function expect(holds) {
  if (!holds) throw new RangeError();
}
