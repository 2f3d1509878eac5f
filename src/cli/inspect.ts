export async function inspectCommand(..._: unknown[]): Promise<void> {}
