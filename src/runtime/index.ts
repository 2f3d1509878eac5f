/** Steps of a program at a party or the dealer, without I/O; all roles in one process for tests and `inspect`. */
export * from './dealer.ts';
export * from './local.ts';
export * from './model.ts';
export * from './party.ts';
export * from './rooms.ts';
