#pragma once

#include <cstddef>
#include <cstdint>
#include <string>

#include "model.hpp"

namespace generate {

/// A text to be written.
struct TextRequest {
    std::string prompt;  ///< at least one byte
    std::size_t length = 0;
    std::size_t context = 0;  ///< most bytes to look back at, at most the positions of the model
    double temperature = 0.8;
    std::uint64_t seed = 1;
};

struct Speed {
    std::size_t tokens = 0;
    double seconds = 0;
};

/// Prints a prompt and its continuation, byte by byte; returns the speed of the steps of one byte.
Speed write_text(Decoder& decoder, const TextRequest& request);

}  // namespace generate
