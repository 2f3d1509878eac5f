/** From a float graph to a program, in running order: calibrate, compile (lower, check). */
export * from './calibrate.ts';
export * from './compile.ts';
export { registerActivation, unsupported } from './lower/index.ts';
