export async function costCommand(..._: unknown[]): Promise<void> {}
