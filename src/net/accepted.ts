/**
 * Reading an accepted TLS socket. Node lets a dialing socket read into one fixed buffer (`onread`), but gives an accepted one a fresh
 * buffer for every read, which costs about 0.5 CPU seconds a gigabyte and 10 to 20 microseconds a round (Node 20 and 24, bench/rounds.ts).
 * The means are the same inside: `readByFixedBuffer` sets on the accepted socket what `onread` would have set. It leans on names that Node does
 * not document, so it looks for each of them first and otherwise leaves the work to the public 'data' events.
 */
import type { TLSSocket } from 'node:tls';

/** Takes the bytes, valid during the call; answers false when reading should pause until `socket.resume()`. */
type Receive = (bytes: Uint8Array, length: number) => boolean;

export function readByEvents(socket: TLSSocket, receive: Receive): void {
  socket.on('data', (chunk: Buffer) => {
    if (!receive(chunk, chunk.length)) socket.pause();
  });
}

/** Answers whether it could. */
export function readByFixedBuffer(socket: TLSSocket, size: number, receive: Receive): boolean {
  const inner = socket as unknown as Record<symbol, unknown> & { _handle?: { useUserBuffer?(buffer: Uint8Array): void } | null };
  const symbols = Object.getOwnPropertySymbols(socket);
  const [bufferKey, generatorKey, callbackKey] = ['kBuffer', 'kBufferGen', 'kBufferCb'].map((name) =>
    symbols.find((symbol) => symbol.description === name && inner[symbol] === null),
  );
  if (!bufferKey || !generatorKey || !callbackKey || typeof inner._handle?.useUserBuffer !== 'function') return false;
  const buffer = new Uint8Array(size);
  inner[bufferKey] = buffer;
  inner[callbackKey] = (length: number): boolean => receive(buffer, length);
  inner._handle.useUserBuffer(buffer);
  socket.resume();
  return true;
}
