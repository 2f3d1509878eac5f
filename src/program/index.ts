/** Programs: types, binding, cost, rules. */
export * from './bind.ts';
export * from './check.ts';
export * from './cost.ts';
export * from './program.ts';
