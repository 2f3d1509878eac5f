/** Tabs as the ARIA practices have them: one stop for the Tab key, arrows between. Panels stay, so that nothing typed is lost. */
import type { ComponentChildren } from 'preact';
import { useRef } from 'preact/hooks';

export interface Tab {
  readonly id: string;
  readonly name: string;
  readonly panel: ComponentChildren;
}

export function Tabs({ tabs, chosen, onChoose }: { tabs: readonly Tab[]; chosen: string; onChoose: (id: string) => void }) {
  const list = useRef<HTMLDivElement>(null);
  const at = tabs.findIndex((t) => t.id === chosen);
  const onKeyDown = (e: KeyboardEvent): void => {
    const to = { ArrowRight: at + 1, ArrowLeft: at - 1 + tabs.length, Home: 0, End: tabs.length - 1 }[e.key];
    if (to === undefined) return;
    e.preventDefault();
    const { id } = tabs[to % tabs.length];
    onChoose(id);
    list.current?.querySelector<HTMLElement>(`#tab-${id}`)?.focus();
  };
  return (
    <>
      {tabs.length > 1 && (
        <div class="tabs" role="tablist" aria-label="What to do" ref={list} onKeyDown={onKeyDown}>
          {tabs.map(({ id, name }) => (
            <button
              key={id}
              id={`tab-${id}`}
              type="button"
              role="tab"
              aria-selected={id === chosen}
              aria-controls={`panel-${id}`}
              tabIndex={id === chosen ? 0 : -1}
              onClick={() => onChoose(id)}
            >
              {name}
            </button>
          ))}
        </div>
      )}
      {tabs.map(({ id, panel }) => (
        <div
          key={id}
          id={`panel-${id}`}
          hidden={id !== chosen}
          {...(tabs.length > 1 ? { role: 'tabpanel', 'aria-labelledby': `tab-${id}` } : {})}
        >
          {panel}
        </div>
      ))}
    </>
  );
}
