#pragma once

#include <cstddef>
#include <string>
#include <vector>

#include <moe/model/moe_config.hpp>

namespace inspect {

/// "128 experts, 8 a token; d_model 2048, d_ff 768, SwiGLU; a shared expert of 1408 that every token goes through".
/// `table_columns` is the width of the table of a hash gate, 0 for others.
[[nodiscard]] std::string shape_in_words(const moe::MoEConfig& config, std::size_t table_columns);

/// "the 8 best of a softmax, divided by their sum", and whatever else the router does.
[[nodiscard]] std::string routing_in_words(const moe::MoEConfig& config);

/// "0-5, 7, 9-47"; `numbers` ascend.
[[nodiscard]] std::string ranges(const std::vector<std::size_t>& numbers);

/// "17.4 GB", "912 kB"; decimal, as sizes of files and bandwidths are.
[[nodiscard]] std::string bytes_text(double bytes);

/// "46.7 billion", "1.3 million".
[[nodiscard]] std::string count_text(double count);

/// "1234", "9.84", "0.12": all figures before the point, three where some are behind it, two of what is below one.
[[nodiscard]] std::string number_text(double number);

}  // namespace inspect
