#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <limits>
#include <map>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "../core/error.hpp"
#include "../core/index.hpp"
#include "dtype.hpp"
#include "json.hpp"
#include "strictness.hpp"
#include "tensor_view.hpp"
#include "text.hpp"

namespace moe::inline MOE_ABI {

/// The free text stored with the tensors, under the header's key "__metadata__".
using SafetensorsMetadata = std::map<std::string, std::string, std::less<>>;

namespace detail {

/// Bounds no sensible file meets: without them a few bytes of header could ask for many times their number in memory.
inline constexpr std::size_t max_header_bytes = 100'000'000;  // as the format's own library has it
inline constexpr std::size_t max_dimensions = 64;
inline constexpr std::size_t max_metadata_entries = 65'536;
/// Values of unknown fields may nest this deep.
inline constexpr std::size_t max_depth = 32;

inline constexpr std::size_t length_bytes = 8;
inline constexpr std::string_view metadata_key = "__metadata__";

struct SafetensorsContents {
    std::vector<TensorView> tensors;   // in the order of the header
    std::vector<std::size_t> by_name;  // their indices, sorted by name
    SafetensorsMetadata metadata;
};

/// Reads the JSON of a safetensors header: an object of tensor descriptions, and metadata among them. Checks each
/// tensor by itself; how they share the data is left to the caller, and so is `by_name`.
class SafetensorsHeader {
public:
    /// `data` is what follows the header. `context` begins every message; both must outlive this object, and the memory
    /// of `data` the contents.
    SafetensorsHeader(std::span<const std::byte> data, std::string_view context, Strictness strictness) noexcept
        : data_(data), context_(context), strictness_(strictness) {}

    /// `text` must begin with '{'.
    [[nodiscard]] SafetensorsContents read(std::string_view text) {
        read_json(text, context_, *this);
        return std::move(contents_);
    }

    // ---- the events of read_json -----------------------------------------------------------------------------------

    void begin_object() {
        switch (next_) {
            case Next::header: object_ = Object::header; break;
            case Next::metadata: object_ = Object::metadata; break;
            case Next::tensor: object_ = Object::tensor; break;
            case Next::unknown: descend(); break;
            default: refuse("an object");
        }
    }

    void end_object() {
        if (depth_ > 0) {
            --depth_;
            return;
        }
        if (object_ == Object::tensor) {
            finish_tensor();
        }
        object_ = Object::header;
    }

    void begin_array() {
        switch (next_) {
            case Next::shape:
                tensor_.shape.emplace();
                next_ = Next::dimension;
                break;
            case Next::offsets: next_ = Next::offset; break;
            case Next::unknown: descend(); break;
            default: refuse("an array");
        }
    }

    void end_array() {
        if (depth_ > 0) {
            --depth_;
        } else if (next_ == Next::offset) {
            finish_offsets();
        }
    }

    void key(std::string name) {
        if (depth_ > 0) {
            return;
        }
        switch (object_) {
            case Object::header: begin_entry(std::move(name)); break;
            case Object::tensor: begin_field(name); break;
            case Object::metadata:
                metadata_name_ = std::move(name);
                next_ = Next::metadata_value;
                break;
        }
    }

    void string(std::string text) {
        switch (next_) {
            case Next::dtype: set_dtype(text); break;
            case Next::metadata_value: add_metadata(std::move(text)); break;
            case Next::unknown: break;
            default: refuse("a string");
        }
    }

    void natural(std::uint64_t value) {
        if (!std::in_range<std::size_t>(value)) {
            other_number(std::to_string(value));
            return;
        }
        const std::size_t size = to_size(value);
        switch (next_) {
            case Next::dimension: add_dimension(size); break;
            case Next::offset: add_offset(size); break;
            case Next::unknown: break;
            default: refuse("a number");
        }
    }

    void other_number(std::string_view text) {
        if (next_ == Next::unknown) {
            return;
        }
        if (next_ != Next::dimension && next_ != Next::offset) {
            refuse("a number");
        }
        const std::string what = expectation().what;
        if (text.find_first_of(".eE") != std::string_view::npos) {
            raise_error(ErrorCode::header, where(), ": ", what, " is ", in_quotes(text), ", not an integer");
        }
        if (text.front() == '-') {
            raise_error(ErrorCode::range, where(), ": ", what, " is negative: ", in_quotes(text));
        }
        raise_error(ErrorCode::overflow, where(), ": ", what, " is ", in_quotes(text), ", more than ",
                    (std::numeric_limits<std::size_t>::max)());
    }

    void literal() {
        if (next_ != Next::unknown) {
            refuse("true, false or null");
        }
    }

private:
    /// What the next value is. Until it ends, for arrays: what their elements are.
    enum class Next { header, metadata, metadata_value, tensor, dtype, shape, dimension, offsets, offset, unknown };
    /// Whose keys are read.
    enum class Object { header, metadata, tensor };

    struct Expectation {
        std::string what;
        std::string_view kind;
    };

    struct Description {
        std::string name;
        std::optional<DType> dtype;
        std::optional<std::vector<std::size_t>> shape;
        std::optional<std::span<const std::byte>> bytes;
        std::array<std::size_t, 2> offsets{};
        std::size_t offset_count = 0;
    };

    [[nodiscard]] Expectation expectation() const {
        switch (next_) {
            case Next::header: return {"the header", "an object"};
            case Next::metadata: return {std::string(metadata_key), "an object"};
            case Next::metadata_value: return {"the value of " + in_quotes(metadata_name_), "a string"};
            case Next::tensor: return {"its description", "an object"};
            case Next::dtype: return {"dtype", "a string"};
            case Next::shape: return {"shape", "an array"};
            case Next::dimension: return {"a dimension of shape", "a number"};
            case Next::offsets: return {"data_offsets", "an array"};
            case Next::offset: return {"a number of data_offsets", "a number"};
            case Next::unknown: break;
        }
        return {"an unknown field", "a value"};
    }

    /// What a message begins with: the file, and the tensor being read if there is one.
    [[nodiscard]] std::string where() const {
        std::string result(context_);
        if (next_ == Next::metadata_value) {
            result.append(": ").append(metadata_key);
        } else if (object_ == Object::tensor || next_ == Next::tensor) {
            result.append(": tensor ").append(in_quotes(tensor_.name));
        }
        return result;
    }

    [[noreturn]] void refuse(std::string_view found) const {
        const auto [what, kind] = expectation();
        raise_error(ErrorCode::header, where(), ": ", what, " is ", found, ", not ", kind);
    }

    /// Into a value that is not looked at.
    void descend() {
        if (++depth_ >= max_depth) {
            raise_error(ErrorCode::header, where(), ": values nest deeper than ", max_depth, " levels");
        }
    }

    void begin_entry(std::string name) {
        if (name == metadata_key) {
            if (std::exchange(metadata_seen_, true)) {
                raise_error(ErrorCode::duplicate, context_, ": ", metadata_key, " stands twice");
            }
            next_ = Next::metadata;
            return;
        }
        if (name.empty()) {
            raise_error(ErrorCode::header, context_, ": a tensor has an empty name");
        }
        tensor_ = {};
        tensor_.name = std::move(name);
        next_ = Next::tensor;
    }

    void begin_field(const std::string& name) {
        if (name == "dtype") {
            require_new(!tensor_.dtype, name);
            next_ = Next::dtype;
        } else if (name == "shape") {
            require_new(!tensor_.shape, name);
            next_ = Next::shape;
        } else if (name == "data_offsets") {
            require_new(!tensor_.bytes, name);
            next_ = Next::offsets;
        } else if (strictness_ == Strictness::lenient) {
            next_ = Next::unknown;
        } else {
            raise_error(ErrorCode::header, where(), ": unknown field ", in_quotes(name));
        }
    }

    void require_new(bool is_new, const std::string& field) const {
        if (!is_new) {
            raise_error(ErrorCode::duplicate, where(), ": the field ", field, " stands twice");
        }
    }

    void add_metadata(std::string value) {
        if (contents_.metadata.size() == max_metadata_entries) {
            raise_error(ErrorCode::range, context_, ": ", metadata_key, " has more than ", max_metadata_entries,
                        " entries");
        }
        const auto [entry, inserted] = contents_.metadata.try_emplace(std::move(metadata_name_), std::move(value));
        if (!inserted) {
            raise_error(ErrorCode::duplicate, context_, ": ", metadata_key, ": the key ", in_quotes(entry->first),
                        " stands twice");
        }
    }

    void set_dtype(const std::string& name) {
        tensor_.dtype = find_dtype(name);
        if (!tensor_.dtype) {
            raise_error(ErrorCode::unknown_type, where(), ": unknown dtype ", in_quotes(name));
        }
    }

    void add_dimension(std::size_t extent) {
        if (tensor_.shape->size() == max_dimensions) {
            raise_error(ErrorCode::range, where(), ": more than ", max_dimensions, " dimensions");
        }
        tensor_.shape->push_back(extent);
    }

    void add_offset(std::size_t offset) {
        if (tensor_.offset_count == tensor_.offsets.size()) {
            raise_error(ErrorCode::header, where(), ": data_offsets has more than 2 numbers");
        }
        tensor_.offsets[tensor_.offset_count++] = offset;
    }

    void finish_offsets() {
        const auto [begin, end] = tensor_.offsets;
        if (tensor_.offset_count != 2) {
            raise_error(ErrorCode::header, where(), ": data_offsets has ", tensor_.offset_count,
                        " numbers instead of 2");
        }
        if (begin > end) {
            raise_error(ErrorCode::layout, where(), ": data_offsets begin at ", begin, ", after their end at ", end);
        }
        if (end > data_.size()) {
            raise_error(ErrorCode::truncated, where(), ": its data end at byte ", end, " of the data, but only ",
                        data_.size(), " are there");
        }
        tensor_.bytes = data_.subspan(begin, end - begin);
    }

    void finish_tensor() {
        if (!tensor_.dtype || !tensor_.shape || !tensor_.bytes) {
            const char* const others = tensor_.shape ? "data_offsets" : "shape";
            raise_error(ErrorCode::header, where(), ": no ", tensor_.dtype ? others : "dtype");
        }
        check_size(*tensor_.dtype, *tensor_.shape, tensor_.bytes->size());
        contents_.tensors.push_back(
            {std::move(tensor_.name), *tensor_.dtype, std::move(*tensor_.shape), *tensor_.bytes});
    }

    /// Zero extents make a tensor empty but do not hide the others: their product must fit too, because whoever
    /// computes strides from the shape multiplies them.
    void check_size(DType dtype, const std::vector<std::size_t>& shape, std::size_t bytes) const {
        std::size_t product = dtype_size(dtype);
        bool empty = false;
        for (const std::size_t extent : shape) {
            empty = empty || extent == 0;
            const std::size_t factor = extent == 0 ? 1 : extent;
            if (product > (std::numeric_limits<std::size_t>::max)() / factor) {
                raise_error(ErrorCode::overflow, where(), ": its size, ", product, " x ", factor,
                            " bytes or more, overflows");
            }
            product *= factor;
        }
        const std::size_t needed = empty ? 0 : product;
        if (needed != bytes) {
            raise_error(ErrorCode::layout, where(), ": its shape and dtype need ", needed,
                        " bytes, but data_offsets span ", bytes);
        }
    }

    std::span<const std::byte> data_;
    std::string_view context_;
    Strictness strictness_;
    Next next_ = Next::header;
    Object object_ = Object::header;
    std::size_t depth_ = 0;  // of containers open in the value of an unknown field
    bool metadata_seen_ = false;
    std::string metadata_name_;  // of the entry being read
    Description tensor_;         // the one being read
    SafetensorsContents contents_;
};

}  // namespace detail
}  // namespace moe::inline MOE_ABI
