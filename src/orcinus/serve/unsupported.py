"""Other engines' request fields that are refused, with replacements."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass

from pydantic import JsonValue

Object = Mapping[str, JsonValue]
OFF: tuple[JsonValue, ...] = (None, False, "", "none", [], {})  # values that usually mean that a field is not in use
NULL: tuple[JsonValue, ...] = (None,)


@dataclass(frozen=True, slots=True)
class Unsupported:
    """A refused field or prefix, and its harmless values.

    If one of `switches`, other fields of the object, is set to one of `switched_off`, the value does not matter.
    """

    instead: str
    off: tuple[JsonValue, ...] = OFF
    switches: tuple[str, ...] = ()
    switched_off: tuple[JsonValue, ...] = ()

    def changes_answer(self, name: str, given: Object) -> bool:
        """Whether the field `name` of the object `given` asks for something."""
        if any(switch in given and _among(given[switch], self.switched_off) for switch in self.switches):
            return False
        return not _among(given[name], self.off)


def _among(value: JsonValue, values: Iterable[JsonValue]) -> bool:
    """Membership as JSON has it: 0 is 0.0 and is not false."""
    return any(isinstance(value, bool) == isinstance(one, bool) and value == one for one in values)


@dataclass(frozen=True, slots=True)
class UnsupportedFields:
    """The refused fields of one kind of object."""

    by_name: Mapping[str, Unsupported]
    by_prefix: Mapping[str, Unsupported]

    def find(self, name: str) -> Unsupported | None:
        """The reason why a field is refused; None if it is not."""
        named = self.by_name.get(name)
        return named or next((one for prefix, one in self.by_prefix.items() if name.startswith(prefix)), None)

    def pattern_properties(self, known: Collection[str] = ()) -> dict[str, JsonValue]:
        """JSON Schema of these fields: name patterns to accepted values.

        Fields in `known` are the object's own, whatever families say.
        """
        names: dict[str, list[str]] = {}
        accepted: dict[str, list[JsonValue]] = {}
        patterns = [(re.escape(name), one) for name, one in self.by_name.items()]
        for pattern, one in [
            *patterns,
            *((self._family_pattern(prefix, known), one) for prefix, one in self.by_prefix.items()),
        ]:
            key = repr(one.off)
            names.setdefault(key, []).append(pattern)
            accepted[key] = list(one.off)
        return {f"^({'|'.join(names[key])})$": {"enum": accepted[key]} for key in names}

    def _family_pattern(self, prefix: str, known: Collection[str]) -> str:
        """Names with a prefix, except those with a rule of their own."""
        own = "|".join(re.escape(name) for name in (*self.by_name, *known) if name.startswith(prefix))
        return f"(?!(?:{own})$){re.escape(prefix)}.*" if own else f"{re.escape(prefix)}.*"


NO_FIELDS = UnsupportedFields({}, {})


def _same(names: str, instead: str, *off: JsonValue) -> dict[str, Unsupported]:
    """Several names of a refused thing.

    `off` are further values that change nothing.
    """
    return {name: Unsupported(instead, (*OFF, *off)) for name in names.split()}


def _only_null(names: str, instead: str, *off: JsonValue) -> dict[str, Unsupported]:
    """Refused fields for which only null changes nothing.

    A false, empty or zero value is a wish, too.
    """
    return {name: Unsupported(instead, (*NULL, *off)) for name in names.split()}


def _family(prefix: str, instead: str, switches: str = "", *switched_off: JsonValue) -> dict[str, Unsupported]:
    """All fields with a prefix.

    `switches` are the fields that turn them on.
    """
    return {prefix: Unsupported(instead, OFF, tuple(switches.split()), switched_off)}


OTHER_GRAMMAR = "use response_format, or structured_outputs with json, regex, choice or grammar"
NO_FUNCTIONS = "use tools and tool_choice"
NO_SEARCH = "there are no built-in tools; give functions in tools"
NO_SAMPLER = "this sampler is not available; use temperature, top_p, top_k and min_p"
NO_BEAMS = "there is no beam search; use n"
NO_ADAPTERS = "there are no adapters; serve the merged model"
NO_MEDIA = "the model reads and writes text only"
CHAT_ONLY = "it belongs to /v1/chat/completions"
TOP_LEVEL = "put its fields at the top level of the body"

GRAMMARS = _same("structural_tag regex_pattern format response_schema output_format output_config", OTHER_GRAMMAR)
TOOLS = (
    _same("functions", NO_FUNCTIONS)
    | _same("function_call", NO_FUNCTIONS, "auto")
    | _same("tool_prompt web_search_options search_parameters plugins", NO_SEARCH)
)
LENGTHS = (
    _only_null(
        "max_new_tokens n_predict num_predict max_length max_tokens_to_sample max_output_tokens max_gen_len"
        " tokens_to_generate maxTokens maxOutputTokens maxNewTokens",
        "use max_tokens",
    )
    | _same("min_new_tokens min_length", "use min_tokens", 0)
    | _same(
        "truncate prompt_truncate_len prompt_truncate_length truncation_length max_input_tokens max_context_length num_ctx",
        "use truncate_prompt_tokens",
    )
    | _same("truncation", "use truncate_prompt_tokens", "disabled")
    | _same("n_keep num_keep", "use truncate_prompt_tokens", 0)
    | _same("context_length_exceeded_behavior transforms", "use truncate_prompt_tokens", "error")
    | _same("max_time t_max_predict_ms", "use timeout, in seconds", 0, -1)
)
SAMPLERS = (
    _same("typical_p typical typ_p tfs_z tfs", NO_SAMPLER, 1)
    | _same("top_a epsilon_cutoff eta_cutoff penalty_alpha adaptive_p min_keep dynamic_temperature", NO_SAMPLER, 0)
    | _same("top_n_sigma nsigma adaptive_target", NO_SAMPLER, 0, -1)
    | _same("exponential_decay_length_penalty exponential_temp skew min_temp max_temp dola_layers", NO_SAMPLER, 0)
    | _only_null("topK topP minP", "use top_k, top_p and min_p")
    | _same(
        "temperature_last temp_last samplers sampler_order sampler_priority top_p_min top_p_decay top_p_reset_ids", NO_SAMPLER
    )
    | _same("guidance_scale", NO_SAMPLER, 1)
    | _same("negative_prompt token_healing watermark logits_processor logits_processors custom_logit_processor", NO_SAMPLER)
    | _only_null("do_sample", "use temperature: 0 for greedy answers", True)
    | _same("rep_pen repetitive_penalty repetitionPenalty", "use repetition_penalty", 1)
    | _same("frequencyPenalty presencePenalty", "use frequency_penalty and presence_penalty", 0)
    | _same("encoder_repetition_penalty no_repeat_ngram_size diversity_penalty", "use repetition_penalty", 0, 1)
    | _same("penalty_range repetition_penalty_range repetition_range", "repetition_penalty counts the whole request", 0, -1)
    | _same("penalize_nl penalize_newline repetition_detection", "use repetition_penalty")
    | _same("use_beam_search", NO_BEAMS)
    | _same("num_beams beam_width num_beam_groups length_penalty len_penalty", NO_BEAMS, 1)
    | _same("early_stopping", NO_BEAMS)
    | _same(
        "num_return_sequences num_completions n_cmpl candidate_count candidateCount best_of_n", "use n for several answers", 1
    )
    | _same("random_seed sampler_seed sampling_seed", "use seed", -1)
)
FAMILIES = (
    _family("guided_", OTHER_GRAMMAR)
    | _family("grammar_", OTHER_GRAMMAR)
    | _family("mirostat", NO_SAMPLER, "mirostat mirostat_mode", 0)
    | _family("dry_", NO_SAMPLER, "dry_multiplier", 0)
    | _family("xtc_", NO_SAMPLER, "xtc_probability", 0)
    | _family("cfg_", NO_SAMPLER, "cfg_scale", 1)
    | _family("dynatemp_", NO_SAMPLER, "dynatemp_range", 0)
    | _family("smoothing_", NO_SAMPLER, "smoothing_factor", 0)
    | _family("repeat_", "use repetition_penalty", "repeat_penalty", 1)
    | _family("rep_pen_", "use repetition_penalty", "rep_pen", 1)
    | _family("lora", NO_ADAPTERS)
)
# The switches of families have their own off-values.
SWITCHES = (
    _same("mirostat mirostat_mode dry_multiplier xtc_probability dynatemp_range smoothing_factor", NO_SAMPLER, 0)
    | _same("cfg_scale", NO_SAMPLER, 1)
    | _same("repeat_penalty", "use repetition_penalty", 1)
)
TOKENS = (
    _same(
        "stop_sequences stop_sequence stop_strings stop_words end_sequences stopping_strings stop_regex stopSequences",
        "use stop",
    )
    | _same("stop_token end_token eos_token_id end_id", "use stop_token_ids")
    | _same("no_stop_trim", "use include_stop_str_in_output")
    | _same("ban_eos_token", "use ignore_eos")
    | _same(
        "bad_words_ids bad_words_token_ids banned_strings banned_phrases banned_tokens custom_token_bans suppress_tokens",
        "use bad_words",
    )
    | _same("begin_suppress_tokens", "use logit_bias")
    | _same(
        "force_words_ids forced_bos_token_id forced_eos_token_id forced_decoder_ids constraints sequence_bias embedding_bias",
        "use logit_bias",
    )
    | _same("logprob_token_ids token_ids_logprob return_logprob details", "use logprobs")
    | _same("n_probs top_logprobs_num top_n_tokens", "use logprobs", 0)
    | _same("logprob_start_len", "use prompt_logprobs", -1)
    | _same("decoder_input_details return_context_logits", "use prompt_logprobs")
    | _same("post_sampling_probs return_hidden_states return_generation_logits", "use logprobs")
    | _same("return_tokens", "use return_token_ids")
    | _same("return_text_in_logprobs", "logprobs have the text of every token already")
    | _only_null("detokenize", "use return_token_ids", True)
    | _only_null("add_bos_token", "use add_special_tokens", True)
)
PROMPTS = (
    _same(
        "chat_template template instruction_template prompt_template",
        "a template from a request is not run; use /v1/completions",
    )
    | _same("documents", "put them into the messages")
    | _same("system instructions safe_prompt guideline preset character", "use a message with the role system")
    | _same("raw input inputs input_ids input_prefix input_suffix", "use prompt in /v1/completions")
    | _same("prompt_embeds input_embeds", "use prompt")
    | _same("previous_response_id conversation session_params", "the server keeps no conversations; send all messages")
    | _same("background deferred", "the answer comes with the response; use stream")
    | _same("modalities", NO_MEDIA, ["text"])
    | _same("audio images image_data multi_modal_data mm_processor_kwargs media_io_kwargs", NO_MEDIA)
    | _same("options parameters sampling_params generation_config generationConfig", TOP_LEVEL)
    | _same("extra_body extra_args vllm_xargs custom_params", TOP_LEVEL)
    | _same("adapter adapters adapter_id adapter_name", NO_ADAPTERS)
    | _only_null("enable_thinking thinking think", "use chat_template_kwargs: {enable_thinking}")
    | _same(
        "thinking_budget reasoning_budget reasoning prompt_mode",
        "use thinking_token_budget, reasoning_effort or chat_template_kwargs: {enable_thinking}",
    )
    | _only_null("separate_reasoning stream_reasoning", "reasoning comes as reasoning_content; use include_reasoning", True)
    | _same("reasoning_split", "reasoning comes as reasoning_content")
    | _only_null("reasoning_format", "reasoning comes as reasoning_content", "auto", "deepseek", "parsed")
    | _same("response_fields raw_output", "responses have all fields of OpenAI's API")
)
GENERATION = GRAMMARS | TOOLS | LENGTHS | SAMPLERS | SWITCHES | TOKENS | PROMPTS

IN_CHAT = UnsupportedFields(
    GENERATION
    | _same("echo return_full_text", "echo belongs to /v1/completions; the answer follows the messages")
    | _same("prompt suffix", "it belongs to /v1/completions; use messages"),
    FAMILIES,
)
IN_COMPLETIONS = UnsupportedFields(
    GENERATION
    | _same("tools", CHAT_ONLY)
    | _same("tool_choice", CHAT_ONLY, "auto")
    | _only_null("parallel_tool_calls", CHAT_ONLY, False, True)
    | _only_null("include_reasoning", CHAT_ONLY, True)
    | _only_null("thinking_token_budget", CHAT_ONLY)
    | _same("suffix", "the model cannot fill in the middle")
    | _same("messages chat_template_kwargs", CHAT_ONLY)
    | _same("continue_final_message", "a completion continues its prompt")
    | _only_null("add_generation_prompt", CHAT_ONLY, False)
    | _only_null("max_completion_tokens", "use max_tokens")
    | _same("top_logprobs", "use logprobs", 0)
    | _same("return_full_text", "use echo"),
    FAMILIES,
)
IN_TOKENIZE = UnsupportedFields(
    _same("chat_template template", "a template from a request is not run; use prompt")
    | _same("documents", "put them into the messages")
    | _same("content text input inputs", "use prompt")
    | _only_null("add_special", "use add_special_tokens")
    | _only_null("parse_special", "special tokens in a prompt are always read as such", True)
    | _same("with_pieces", "use return_token_strs")
    | _same("truncate truncation max_length truncate_prompt_tokens", "take the last tokens of the answer")
    | _only_null("enable_thinking thinking think", "use chat_template_kwargs: {enable_thinking}")
    | _same("mm_processor_kwargs images", NO_MEDIA),
    {},
)
IN_DETOKENIZE = UnsupportedFields(
    _same("token_ids ids input_ids", "use tokens")
    | _same("spaces_between_special_tokens clean_up_tokenization_spaces", "the text is that of the tokenizer"),
    {},
)
IN_MESSAGE = UnsupportedFields(
    _same("function_call", "use tool_calls")
    | _same("audio images", NO_MEDIA)
    | _same("refusal", "put its text into content")
    | _same("prefix partial", "use continue_final_message")
    | _same("thinking thinking_blocks reasoning_details", "use reasoning_content"),
    {},
)
IN_STRUCTURED_OUTPUTS = UnsupportedFields(
    _same("structural_tag", OTHER_GRAMMAR)
    | _same("disable_any_whitespace", "JSON is always spaced as Python's json.dumps does it", True)
    | _same("whitespace_pattern", "JSON is always spaced as Python's json.dumps does it")
    | _same("disable_additional_properties", "write additionalProperties: false into the schema"),
    {},
)
