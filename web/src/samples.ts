import samples from 'virtual:samples';
import { fromBase64 } from './bytes.ts';

export interface Sample {
  readonly label: string;
  /** 28×28, white on black. */
  readonly pixels: Uint8Array;
}
/** One picture of each class of Fashion-MNIST. */
export const fashion: readonly Sample[] = samples.map(({ label, pixels }) => ({ label, pixels: fromBase64(pixels) }));

export const sentences = [
  'The cat has been asleep on the radiator since noon.',
  'Our flight to Lisbon was cancelled because of fog.',
  'Whisk the eggs before you add the flour.',
  'My knee hurts when I climb the stairs.',
  'The central bank raised interest rates again.',
  'She tuned the old violin before the concert.',
  'A puppy chased its tail across the garden.',
  'The tenant wants the deposit back before moving out.',
] as const;
export const query = 'What should I ask a doctor about?';
