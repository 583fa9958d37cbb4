#include "shapes.hpp"

#include <algorithm>
#include <array>

namespace bench {

namespace {

constexpr std::array all_shapes{
    Shape{"mixtral-8x7b", 8, 2, 4096, 14336},
    Shape{"qwen3-30b-a3b", 128, 8, 2048, 768},
    Shape{"deepseek-v2-lite", 64, 6, 2048, 1408, 2 * 1408},
    Shape{"olmoe-1b-7b", 64, 8, 2048, 1024},
    Shape{"gpt-oss-20b", 32, 4, 2880, 2880},
    Shape{"granite-1b-a400m", 32, 8, 1024, 512},
    Shape{"deepseek-v3-slice", 256, 8, 7168, 2048, 2048, true},
    Shape{"tiny", 8, 2, 128, 96, 64, false, true},
};

}  // namespace

std::span<const Shape> shapes() noexcept { return all_shapes; }

const Shape* find_shape(std::string_view name) noexcept {
    const auto found = std::ranges::find(all_shapes, name, &Shape::name);
    return found == all_shapes.end() ? nullptr : &*found;
}

}  // namespace bench
