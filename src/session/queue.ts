/** A fair queue: first come, first served within a client, clients in turn. */
export class FairQueue<T extends { readonly client: string }> {
  /** In the order of turns. */
  private readonly lines = new Map<string, T[]>();
  size = 0;

  push(item: T): void {
    const line = this.lines.get(item.client);
    if (line) line.push(item);
    else this.lines.set(item.client, [item]);
    this.size++;
  }

  waiting(client: string): number {
    return this.lines.get(client)?.length ?? 0;
  }

  /** The next item whose turn it is among those that are ready; it stays in the queue. */
  next(ready: (item: T) => boolean): T | undefined {
    for (const line of this.lines.values()) {
      const item = line.find(ready);
      if (item) return item;
    }
    return undefined;
  }

  /** Takes the item out. `served`: its client has had its turn. */
  remove(item: T, served = false): void {
    const line = this.lines.get(item.client);
    const at = line?.indexOf(item) ?? -1;
    if (!line || at < 0) return;
    line.splice(at, 1);
    this.size--;
    if (served || line.length === 0) this.lines.delete(item.client);
    if (served && line.length > 0) this.lines.set(item.client, line);
  }

  /** In the order in which they would be served if all were ready. */
  *inOrder(): Generator<T> {
    const lines = [...this.lines.values()];
    for (let i = 0; lines.some((line) => i < line.length); i++) for (const line of lines) if (i < line.length) yield line[i];
  }
}
