/** Who can see what, in plain words. */
type Answer = 'yes' | 'no' | 'noise' | 'masked';
type Row = readonly [what: string, you: Answer | '—', p0: Answer, p1: Answer, dealer: Answer];

const rows = (thing: string, weights: 'public' | 'private'): readonly Row[] => [
  [`Your ${thing}`, 'yes', 'no', 'no', 'no'],
  ['Its two shares, noise each', 'yes', 'noise', 'noise', 'no'],
  ['Values inside the network', 'no', 'masked', 'masked', 'no'],
  ['The answer', 'yes', 'no', 'no', 'no'],
  weights === 'public'
    ? ['The weights, public here', '—', 'yes', 'yes', 'no']
    : ['The weights, private here', 'no', 'masked', 'masked', 'no'],
  ['Which model, lengths, timing', 'yes', 'yes', 'yes', 'yes'],
];

export function Who({ thing, weights }: { thing: string; weights: 'public' | 'private' }) {
  return (
    <section aria-labelledby="who">
      <h2 id="who">Who can see what</h2>
      <table class="who">
        <thead>
          <tr>
            <td />
            {['You', 'P0', 'P1', 'Dealer'].map((n) => (
              <th key={n} scope="col">
                {n}
              </th>
            ))}
          </tr>
        </thead>
        <tbody>
          {rows(thing, weights).map(([what, ...cells]) => (
            <tr key={what}>
              <th scope="row">{what}</th>
              {cells.map((c, i) => (
                <td key={`${i}`} class={c === 'yes' ? 'sees' : undefined}>
                  {c}
                </td>
              ))}
            </tr>
          ))}
        </tbody>
      </table>
      <p>
        “Noise” is one share: every value of it is equally likely, whatever your {thing} is. “Masked” is a value plus a random number from
        the dealer’s seeds, used once. It takes two of the three servers together to undo either, so two of them must be run by people who
        do not work together.
      </p>
      <p>
        Here all three run on one machine, and each party shows this page what it received. That is the demonstration: a party that others
        can reach refuses to do so.
      </p>
    </section>
  );
}
