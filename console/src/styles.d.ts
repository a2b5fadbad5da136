// Styles are imported for what they do, and are nothing in code.
declare module "*.css";
