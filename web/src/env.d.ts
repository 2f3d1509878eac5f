/// <reference types="vite/client" />
declare module 'virtual:samples' {
  const samples: readonly { readonly label: string; readonly pixels: string }[];
  export default samples;
}
