# For the scripts that play a project which uses the library.

# run(<command>...): ends the script where it fails; `output` is what it printed.
function(run)
    execute_process(COMMAND ${ARGV} OUTPUT_VARIABLE out ERROR_VARIABLE out RESULT_VARIABLE status)
    if(NOT status EQUAL 0)
        list(JOIN ARGV " " command)
        message(FATAL_ERROR "${command}: ${status}\n${out}")
    endif()
    set(output "${out}" PARENT_SCOPE)
endfunction()

# run_to_fail(<command>...): the same for one that must fail.
function(run_to_fail)
    execute_process(COMMAND ${ARGV} OUTPUT_VARIABLE out ERROR_VARIABLE out RESULT_VARIABLE status)
    if(status EQUAL 0)
        list(JOIN ARGV " " command)
        message(FATAL_ERROR "${command}: did not fail\n${out}")
    endif()
    set(output "${out}" PARENT_SCOPE)
endfunction()

# expect(<text>...): each stands in `output`, wherever CMake broke its lines.
function(expect)
    string(REGEX REPLACE "[ \n]+" " " words "${output}")
    foreach(text IN LISTS ARGV)
        string(FIND "${words}" "${text}" place)
        if(place EQUAL -1)
            message(FATAL_ERROR "\"${text}\" is not in\n${output}")
        endif()
    endforeach()
endfunction()
