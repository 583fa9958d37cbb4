#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <string_view>

#include "../core/error.hpp"
#include "../core/index.hpp"
#include "gguf_value.hpp"
#include "text.hpp"

namespace moe::inline MOE_ABI::detail {

/// Where a parser stands in a GGUF file, and what it reads there: each function takes something from the front of the
/// rest, or throws Error(truncated) saying what was cut off where.
class GgufCursor {
public:
    /// `context` begins every message; both must outlive the cursor.
    GgufCursor(std::span<const std::byte> file, std::string_view context) noexcept : file_(file), context_(context) {}

    [[nodiscard]] std::size_t position() const noexcept { return at_; }
    [[nodiscard]] std::size_t rest() const noexcept { return file_.size() - at_; }
    [[nodiscard]] std::span<const std::byte> since(std::size_t begin) const {
        return file_.subspan(begin, at_ - begin);
    }

    /// What a message begins with: the file, and the entry or tensor being read, if there is one.
    [[nodiscard]] std::string where() const {
        std::string result(context_);
        if (!name_.empty()) {
            result.append(": ").append(kind_).append(" ").append(in_quotes(name_));
        }
        return result;
    }

    /// What follows belongs to no entry and no tensor.
    void forget_name() noexcept { name_ = {}; }

    [[nodiscard]] std::span<const std::byte> take(std::uint64_t size, const char* what) {
        if (size > rest()) {
            raise_error(ErrorCode::truncated, where(), ": ", what, ", of ", size, " bytes from byte ", at_,
                        " on, is cut off after ", rest());
        }
        at_ += to_size(size);
        return file_.subspan(at_ - to_size(size), to_size(size));
    }

    template <class Number>
    [[nodiscard]] Number number(const char* what) {
        return load_number<Number>(take(sizeof(Number), what).data());
    }

    [[nodiscard]] std::string_view string(const char* what) {
        const auto length = number<std::uint64_t>("the length of a string");
        const std::span<const std::byte> text = take(length, what);
        return {reinterpret_cast<const char*>(text.data()), text.size()};
    }

    /// The name of a `kind` ("tensor"), which messages then speak of. Throws Error(header) for names that a C string
    /// could not hold.
    [[nodiscard]] std::string name(const char* kind) {
        name_ = {};
        const std::size_t begin = at_;
        const std::string_view text = string("a name");
        if (text.empty()) {
            raise_error(ErrorCode::header, where(), ": the name of a ", kind, " at byte ", begin, " is empty");
        }
        kind_ = kind;
        name_ = text;
        if (text.find('\0') != std::string_view::npos) {
            raise_error(ErrorCode::header, where(), ": the name has a zero byte in it");
        }
        return std::string(text);
    }

private:
    std::span<const std::byte> file_;
    std::string_view context_;
    std::size_t at_ = 0;
    const char* kind_ = "";
    std::string_view name_;
};

/// `count`, if so many things of at least `least_bytes` each fit into what follows, so that memory asked for them is
/// proportional to the file. Throws Error(truncated).
[[nodiscard]] inline std::size_t possible_count(const GgufCursor& cursor, std::uint64_t count, std::size_t least_bytes,
                                                std::string_view what) {
    if (count > cursor.rest() / least_bytes) {
        raise_error(ErrorCode::truncated, cursor.where(), ": ", count, " ", what, " of at least ", least_bytes,
                    " bytes each are announced, but ", cursor.rest(), " bytes follow");
    }
    return to_size(count);
}

}  // namespace moe::inline MOE_ABI::detail
