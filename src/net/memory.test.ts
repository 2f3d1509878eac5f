import { linkCases } from './link.case.ts';
import { linkPair } from './memory.ts';

linkCases(async (options) => linkPair('p0', 'p1', options));
