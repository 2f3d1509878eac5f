/** Functions to harmonic series: float functions, the least-squares solver, Fourier extensions, and the choice of a gate's parameters. */
export * from './choose.ts';
export * from './fourier.ts';
export * from './functions.ts';
export * from './row.ts';
export * from './solve.ts';
export * from './word.ts';
