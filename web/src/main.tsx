import { render } from 'preact';
import { App } from './app.tsx';

const [p0, p1] = (document.querySelector<HTMLMetaElement>('meta[name=subrosa-parties]')?.content ?? '').split(' ');
render(<App parties={[p0, p1]} />, document.getElementById('app') as HTMLElement);
