export { type Config, ConfigError, parseConfig, readConfig } from './config.ts';
export { type RunningRole, type StartOptions, startRole } from './service.ts';
