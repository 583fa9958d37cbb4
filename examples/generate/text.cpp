#include "text.hpp"

#include <chrono>
#include <cstdio>
#include <span>
#include <utility>
#include <vector>

#include "sampler.hpp"

namespace generate {

namespace {

/// Prints one byte of text at once; bytes that would steer the terminal become '?'.
void print_byte(std::int32_t byte) {
    const bool steers = (byte < 0x20 && byte != '\n' && byte != '\t') || byte == 0x7F;
    std::putchar(steers ? '?' : byte);
    std::fflush(stdout);
}

/// Logits of what follows `text`, of which the model sees all, or the last half of `context` when it is longer.
Matrix read_anew(Decoder& decoder, std::span<const std::int32_t> text, std::size_t context) {
    decoder.restart();
    return decoder.append(text.size() <= context ? text : text.last(context / 2));
}

}  // namespace

Speed write_text(Decoder& decoder, const TextRequest& request) {
    std::vector<std::int32_t> text;
    for (const char c : request.prompt) {
        text.push_back(static_cast<unsigned char>(c));
        print_byte(text.back());
    }
    Matrix logits = read_anew(decoder, text, request.context);
    Speed speed;
    for (std::size_t i = 0; i < request.length; ++i) {
        const double uniform = moe::random_uniform(request.seed, i);
        text.push_back(sample(logits.row(logits.rows() - 1), request.temperature, uniform));
        print_byte(text.back());
        if (std::cmp_greater_equal(decoder.position(), request.context)) {
            logits = read_anew(decoder, text, request.context);
            continue;
        }
        const auto start = std::chrono::steady_clock::now();
        logits = decoder.append(std::span(&text.back(), 1));
        speed.seconds += std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
        ++speed.tokens;
    }
    std::printf("\n\n");
    return speed;
}

}  // namespace generate
