#include "run.hpp"

#include <algorithm>
#include <charconv>
#include <string>
#include <type_traits>

namespace trainer {

namespace {

/// Calls field(name, value) for each number of a run.
template <class AnyRun, class Field>
void for_each_field(AnyRun& run, const Field& field) {
    auto& config = run.config;
    auto& settings = run.settings;
    field("d_model", config.d_model);
    field("d_ff", config.d_ff);
    field("n_layers", config.n_layers);
    field("n_experts", config.n_experts);
    field("top_k", config.top_k);
    field("norm_eps", config.norm_eps);
    field("rope_theta", config.rope_theta);
    field("length", settings.length);
    field("batch", settings.batch);
    field("micro_batch", settings.micro_batch);
    field("steps", settings.schedule.n_steps);
    field("rate", settings.schedule.rate);
    field("beta1", settings.adam.beta1);
    field("beta2", settings.adam.beta2);
    field("epsilon", settings.adam.epsilon);
    field("decay", settings.adam.decay);
    field("clip", settings.clip);
    field("aux", settings.aux);
    field("z", settings.z);
    field("seed", settings.seed);
}

}  // namespace

Run default_run() {
    Run run;
    run.config = {.d_model = 128,
                  .d_ff = 192,
                  .n_layers = 4,
                  .n_experts = 8,
                  .top_k = 2,
                  .vocab_size = 256,
                  .norm_eps = 1e-5,
                  .rope_theta = 1e4,
                  .rounded_frequencies = false};
    run.settings = {.length = 128, .batch = 16, .schedule = {.rate = 5e-3, .n_steps = 1500}};
    return run;
}

void complete(Run& run) {
    Config& config = run.config;
    moe::ensure(config.d_model % 2 == 0, moe::ErrorCode::range, "--d-model is ", config.d_model,
                ", rotary positions need an even number");
    moe::ensure(config.top_k <= config.n_experts, moe::ErrorCode::range, "--top-k ", config.top_k, " exceeds the ",
                config.n_experts, " experts");
    const std::size_t micro_batch = run.settings.micro_batch;
    moe::ensure(micro_batch == 0 || run.settings.batch % micro_batch == 0, moe::ErrorCode::range, "--micro-batch ",
                micro_batch, " does not divide --batch ", run.settings.batch);
    config.head_dim = 32;
    while (config.d_model % config.head_dim != 0) {
        config.head_dim /= 2;
    }
    config.n_heads = config.d_model / config.head_dim;
    config.n_kv_heads = config.n_heads % 2 == 0 ? config.n_heads / 2 : config.n_heads;
    config.max_positions = signed_size(run.settings.length);
    Schedule& schedule = run.settings.schedule;
    schedule.warm_up = std::min<std::uint64_t>(schedule.n_steps / 10, 100);
}

moe::SafetensorsMetadata to_metadata(const Run& run) {
    moe::SafetensorsMetadata metadata;
    for_each_field(run, [&](const char* name, auto value) {
        char text[32];
        const std::to_chars_result end = std::to_chars(text, text + sizeof(text), value);  // what reads back as it was
        metadata[name] = std::string(text, end.ptr);
    });
    return metadata;
}

Run from_metadata(const moe::SafetensorsMetadata& metadata, const std::string& path) {
    constexpr std::ptrdiff_t largest = 1 << 20;  // keeps every product of two sizes far from overflow
    Run run = default_run();
    for_each_field(run, [&](const char* name, auto& value) {
        const auto found = metadata.find(name);
        moe::ensure(found != metadata.end(), moe::ErrorCode::missing, path, ": no \"", name, "\" in its metadata");
        const std::string& text = found->second;
        const std::from_chars_result read = std::from_chars(text.data(), text.data() + text.size(), value);
        moe::ensure(read.ec == std::errc{} && read.ptr == text.data() + text.size(), moe::ErrorCode::syntax, path,
                    ": \"", name, "\" in its metadata is '", text, "', no number");
        if constexpr (std::is_same_v<std::remove_reference_t<decltype(value)>, std::ptrdiff_t>) {
            moe::ensure(value >= 1 && value <= largest, moe::ErrorCode::range, path, ": \"", name, "\" is ", value,
                        ", it must be in 1..", largest);
        }
    });
    const Settings& settings = run.settings;
    moe::ensure(std::min(settings.length, settings.batch) > 0 &&
                    std::max(settings.length, settings.batch) <= unsigned_size(largest),
                moe::ErrorCode::range, path, ": ", settings.batch, " sequences of ", settings.length, " are no batch");
    complete(run);
    return run;
}

}  // namespace trainer
