/** The structured fields of requests, and the shapes of errors. Types only. */

export interface TextPart {
  type: "text";
  text: string;
}
type Content = string | TextPart[];

export interface FunctionCall {
  id: string;
  type: "function";
  function: { name: string; arguments: string };
}

export interface SystemMessage {
  role: "system" | "developer";
  content: Content;
  name?: string;
}
export interface UserMessage {
  role: "user";
  content: Content;
  name?: string;
}
export interface AssistantMessage {
  role: "assistant";
  content?: Content | null;
  name?: string;
  reasoning_content?: string | null;
  refusal?: string | null;
  tool_calls?: FunctionCall[] | null;
}
export interface ToolMessage {
  role: "tool";
  content: Content;
  tool_call_id: string;
}
export type ChatMessage = SystemMessage | UserMessage | AssistantMessage | ToolMessage;

/** A JSON Schema. */
export type JsonSchema = boolean | { [keyword: string]: unknown };

export interface Tool {
  type: "function";
  function: {
    name: string;
    description?: string;
    parameters?: { [keyword: string]: unknown } | null;
    strict?: boolean | null;
  };
}
export type ToolChoice =
  | "auto"
  | "none"
  | "required"
  | { type: "function"; function: { name: string } };

export type ResponseFormat =
  | { type: "text" }
  | { type: "json_object" }
  | {
      type: "json_schema";
      json_schema: { name: string; description?: string; schema: JsonSchema; strict?: boolean | null };
    };

export interface StreamOptions {
  include_usage?: boolean;
}

export type ReasoningEffort = "none" | "minimal" | "low" | "medium" | "high" | "xhigh";

/** The body of a failed request, or the last event of a failed stream. */
export interface ErrorBody {
  error: { message: string; type: string; param: string | null; code: string };
}
